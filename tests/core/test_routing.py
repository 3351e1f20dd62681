"""Which served entity is asked first, which follow, and what is answered when none of them could."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import routing
from pipeline.endpoints import CoreConfig
from pipeline.providers.result import Failure, ProviderResult


def a_config(*names: str, shares: dict[str, int] | None = None) -> CoreConfig:
    entities = [
        {
            "name": name,
            "external_model": {
                "name": name, "provider": "custom", "task": "llm/v1/chat",
                "custom_provider_config": {"custom_provider_url": "http://127.0.0.1:1/v1"},
            },
        }
        for name in names
    ]  # fmt: skip
    routes = [{"served_entity_name": n, "traffic_percentage": s} for n, s in (shares or {}).items()]
    return CoreConfig.model_validate({"served_entities": entities, **({"traffic_config": {"routes": routes}} if routes else {})})


def failed(failure: Failure, status: int = 500, retry_after_s: int | None = None) -> ProviderResult:
    return ProviderResult(status, failure=failure, error=f"provider said {status}", retry_after_s=retry_after_s)


def test_without_traffic_config_the_first_served_entity_gets_all():
    assert {routing.order(a_config("a", "b"), False, f"r{i}")[0].label for i in range(50)} == {"a"}


def test_with_fallback_the_others_follow_in_their_order():
    config = a_config("a", "b", "c", shares={"b": 100})
    assert [e.label for e in routing.order(config, True, "r")] == ["b", "a", "c"]
    assert [e.label for e in routing.order(config, False, "r")] == ["b"]


def test_the_weights_pick_the_first_entity_in_their_proportion():
    config = a_config("a", "b", shares={"a": 80, "b": 20})
    counts = Counter(routing.order(config, False, f"request-{i}")[0].label for i in range(5_000))
    assert 3_850 < counts["a"] < 4_150


@given(st.text(min_size=1))
def test_a_request_that_runs_again_takes_the_same_way(request_id):
    config = a_config("a", "b", "c", shares={"a": 34, "b": 33, "c": 33})
    ways = {tuple(e.label for e in routing.order(config, True, request_id)) for _ in range(3)}
    assert len(ways) == 1


@pytest.mark.parametrize(
    ("failure", "goes_on"), [(Failure.RATE_LIMITED, True), (Failure.PROVIDER, True), (Failure.CLIENT, False), (None, False)]
)
def test_the_client_s_own_mistake_does_not_fall_back(failure, goes_on):
    assert routing.goes_on(failure) is goes_on


@given(left_s=st.floats(0.01, 600), entities=st.integers(1, 15))
def test_the_attempts_share_the_deadline_and_never_exceed_it(left_s, entities):
    total = left = left_s
    for place in range(entities):
        timeout_s = routing.attempt_timeout_s(left, entities - place)
        assert 0 < timeout_s <= left + 1e-9
        left -= timeout_s
    assert left == pytest.approx(0, abs=1e-6 * total + 1e-9)


def test_all_over_their_limit_is_429_with_the_shortest_wait():
    error = routing.error_of([failed(Failure.RATE_LIMITED, 429, 7), failed(Failure.RATE_LIMITED, 429, 3)], False)
    assert (error.status_code, error.retry_after_s) == (429, 3)


@pytest.mark.parametrize(
    ("results", "deadline_passed", "status"),
    [
        ([failed(Failure.RATE_LIMITED, 429), failed(Failure.PROVIDER)], False, 502),
        ([failed(Failure.PROVIDER), failed(Failure.CLIENT, 422)], False, 400),
        ([failed(Failure.PROVIDER, 0)], True, 504),
        ([], True, 504),
    ],
)
def test_the_answer_where_no_entity_gave_one(results, deadline_passed, status):
    assert routing.error_of(results, deadline_passed).status_code == status
