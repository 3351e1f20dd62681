"""Routing over any configuration: the order is a rearrangement, weights of nothing are never first, one failure of the client's ends it,
and what is answered depends on the attempts alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import routing
from pipeline.endpoints import CoreConfig
from pipeline.errors import DeadlineExceeded, InvalidParameter, ProviderFailed, RateLimited
from pipeline.providers.result import Failure, ProviderResult
from tests.core.test_routing import a_config


@st.composite
def configurations(draw: st.DrawFn) -> CoreConfig:
    names = [f"e{number}" for number in range(draw(st.integers(1, 6)))]
    if draw(st.booleans()):
        return a_config(*names)
    cuts = [0, *sorted(draw(st.lists(st.integers(0, 100), min_size=len(names) - 1, max_size=len(names) - 1))), 100]
    return a_config(*names, shares={name: cuts[n + 1] - cuts[n] for n, name in draw(st.permutations(list(enumerate(names))))})


failures = st.builds(
    ProviderResult,
    st.sampled_from([0, 400, 429, 500, 503]),
    failure=st.sampled_from(list(Failure)),
    error=st.sampled_from(["no", "busy"]),
    retry_after_s=st.none() | st.integers(0, 60),
)


@given(configurations(), st.text(min_size=1, max_size=40))
def test_with_fallback_every_entity_is_asked_once_and_without_it_one(config, request_id):
    all_of_them = [e.label for e in config.served_entities]
    asked = [e.label for e in routing.order(config, True, request_id)]
    assert sorted(asked) == sorted(all_of_them)
    assert [name for name in all_of_them if name != asked[0]] == asked[1:]
    assert [e.label for e in routing.order(config, False, request_id)] == asked[:1]


@given(configurations(), st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=30))
def test_who_has_no_share_is_never_asked_first(config, request_ids):
    if config.traffic_config is None:
        shares = {config.served_entities[0].label}
    else:
        shares = {r.target for r in config.traffic_config.routes if r.traffic_percentage}
    assert {routing.order(config, True, request_id)[0].label for request_id in request_ids} <= shares


@given(st.lists(failures, max_size=6), st.booleans())
def test_what_is_answered_where_nobody_answered(results, late):
    error = routing.error_of(results, late)
    if results and results[-1].failure is Failure.CLIENT:
        assert isinstance(error, InvalidParameter)
    elif late or not results:
        assert isinstance(error, DeadlineExceeded)
    elif all(r.failure is Failure.RATE_LIMITED for r in results):
        assert isinstance(error, RateLimited)
        told = [r.retry_after_s for r in results if r.retry_after_s]
        assert error.retry_after_s == (min(told) if told else 1)
    else:
        assert isinstance(error, ProviderFailed)


@given(left_s=st.floats(0.01, 3_600), takes=st.lists(st.floats(0, 1), min_size=1, max_size=15))
def test_entities_that_fail_early_leave_their_time_to_the_others(left_s, takes):
    shares = []
    left = left_s
    for place, share in enumerate(takes):
        timeout_s = routing.attempt_timeout_s(left, len(takes) - place)
        assert 0 <= timeout_s <= left * (1 + 1e-9)
        shares.append(timeout_s)
        left -= timeout_s * share
    assert left >= -1e-6 * left_s
    # Nobody gets less than an equal part of the whole.
    assert all(timeout_s >= left_s / len(takes) * (1 - 1e-6) for timeout_s in shares)
