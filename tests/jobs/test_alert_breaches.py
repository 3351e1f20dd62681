"""What is a breach: groups, bounds, and that one rule, group and hour has one alert, whatever is counted again."""

from __future__ import annotations

import random
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jobs.alert_breaches import NONE, OVER, RAISED, WAITING, Alert, Figures, Sums, ended, judge, measure
from jobs.alert_rules import Rule
from pipeline.topics import HOUR_MS

HOUR = 480_000
MIDDLE_MS = HOUR * HOUR_MS + HOUR_MS // 2
END_MS = (HOUR + 1) * HOUR_MS


def rule(metric: str = "error_rate", above: Any = "0.5", by: str = "endpoint", **more: Any) -> Rule:
    return Rule(name=f"{metric} by {by}", metric=metric, above=above, by=by, **more)  # type: ignore[arg-type]


def sums(endpoint: str = "a", hour: int = HOUR, requests: int = 20, **more: Any) -> Sums:
    return Sums(hour, endpoint, **{"tags": {}, "requests": requests, **more})


def values(found: Rule, figures: Figures) -> dict[tuple[str, int], Decimal]:
    return {(m.group, m.hour): m.value for m in measure([found], figures)}


def taken(known: dict[str, Alert], changed: Iterable[Alert]) -> dict[str, Alert]:
    return known | {alert.alert_id: alert for alert in changed}


def test_a_share_is_of_all_requests_of_the_group_and_hour_and_exact() -> None:
    figures = Figures(
        usage=(sums(requests=12, errors=1), sums(requests=8), sums(hour=HOUR - 1, errors=20), sums("b", requests=19, errors=19))
    )
    assert values(rule(), figures) == {("a", HOUR): Decimal("0.05"), ("a", HOUR - 1): Decimal(1)}
    assert values(rule(min_requests=19), figures)["b", HOUR] == 1
    # At the bound is not above it.
    assert judge(measure([rule(above=0.05, only="a")], Figures(usage=(sums(errors=1),))), {}, MIDDLE_MS, told=False) == []


def test_tags_group_across_endpoints_and_what_has_no_such_tag_is_in_no_group() -> None:
    usage = (
        sums("a", tokens=5, tags={"team": "search", "site": "x"}), sums("b", tokens=6, tags={"team": "search"}),
        sums("b", tokens=7, tags={"team": "ads"}), sums("c", tokens=8),
    )  # fmt: skip
    assert values(rule("tokens", 0, "tag:team"), Figures(usage=usage)) == {("search", HOUR): 11, ("ads", HOUR): 7}
    assert values(rule("tokens", 0, "tag:team", only="ads"), Figures(usage=usage)) == {("ads", HOUR): 7}
    assert values(rule("tokens", 0), Figures(usage=usage)) == {("a", HOUR): 5, ("b", HOUR): 13, ("c", HOUR): 8}


def test_costs_are_summed_exactly_and_latencies_are_taken_as_they_are() -> None:
    figures = Figures(
        costs=tuple(sums(requests=1, cost=Decimal("0.1")) for _ in range(3)),
        latencies={
            ("endpoint", "a", HOUR): (20, Decimal("812.5")), ("tag:team", "a", HOUR): (99, Decimal(1)),
            ("endpoint", "b", HOUR): (19, Decimal(9)),
        },
    )  # fmt: skip
    assert values(rule("cost"), figures) == {("a", HOUR): Decimal("0.3")}
    assert judge(measure([rule("cost", "0.3")], figures), {}, MIDDLE_MS, told=False) == []
    assert values(rule("p95_latency_ms"), figures) == {("a", HOUR): Decimal("812.5")}


def test_an_alert_says_what_it_is_about() -> None:
    (alert,) = judge(
        measure([rule(by="tag:team", above="0.50")], Figures(usage=(sums(errors=15, tags={"team": "ads"}),))), {}, MIDDLE_MS, told=True
    )
    assert (alert.state, alert.webhook, alert.raised_ms, alert.ended_ms) == (RAISED, WAITING, MIDDLE_MS, None)
    told = alert.as_json()
    assert told.pop("text") == "error_rate by tag:team: error_rate of team ads is 0.75, above 0.5, in the hour from 2024-10-04 00:00 UTC"
    assert told == {
        "id": alert.alert_id, "rule": "error_rate by tag:team", "metric": "error_rate", "by": "tag:team", "group": "ads",
        "hour": "2024-10-04T00:00:00Z", "value": "0.75", "above": "0.5", "requests": 20, "state": "raised",
        "raised_at": "2024-10-04T00:30:00Z",
    }  # fmt: skip


def test_a_breach_ends_when_it_is_over_or_its_hour_is_and_is_never_a_second_one() -> None:
    def judged(known: dict[str, Alert], errors: int, now_ms: int, hour: int = HOUR) -> dict[str, Alert]:
        return taken(known, judge(measure([rule()], Figures(usage=(sums(errors=errors, hour=hour),))), known, now_ms, told=False))

    known = judged({}, 20, MIDDLE_MS)
    (first,) = known.values()
    assert first.webhook == NONE
    assert judged(known, 20, MIDDLE_MS + 1) == known
    known = judged(known, 1, MIDDLE_MS + 2)
    assert [(a.state, a.ended_ms) for a in known.values()] == [(OVER, MIDDLE_MS + 2)]
    known = judged(known, 20, MIDDLE_MS + 3)
    assert list(known.values()) == [first]
    assert ended(known.values(), END_MS - 1) == []
    known = taken(known, ended(known.values(), END_MS + 5))
    assert [(a.state, a.ended_ms) for a in known.values()] == [(OVER, END_MS)]
    assert judged(known, 20, END_MS + 6) == known
    # Late rows: a new alert of an hour that has ended.
    (late,) = judged({}, 20, END_MS + 7).values()
    assert (late.alert_id, late.state, late.raised_ms, late.ended_ms) == (first.alert_id, OVER, END_MS + 7, END_MS + 7)
    (other,) = judged({}, 20, END_MS + 8, HOUR + 1).values()
    assert other.alert_id != first.alert_id and other.state == RAISED


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2 * HOUR_MS)), max_size=12), st.integers(0, 1000))
def test_however_often_and_in_whichever_order_it_is_judged_there_is_one_alert_for_each_breach(
    judgements: list[tuple[int, int]], seed: int
) -> None:
    known: dict[str, Alert] = {}
    rng = random.Random(seed)
    above = set()
    for errors, after_ms in sorted(judgements, key=lambda j: j[1]):
        name, hour, now_ms = rng.choice("ab"), rng.choice([HOUR, HOUR + 1]), HOUR * HOUR_MS + after_ms
        changed = judge(measure([rule()], Figures(usage=(sums(name, hour, errors=errors),))), known, now_ms, told=False)
        known = taken(taken(known, changed), ended(known.values(), now_ms))
        if errors > 10:
            above.add((name, hour))
        for alert in known.values():
            assert (alert.state == RAISED) == (alert.ended_ms is None)
            assert alert.ended_ms is None or alert.raised_ms <= alert.ended_ms
    assert sorted((a.group_value, a.hour) for a in known.values()) == sorted(above)
