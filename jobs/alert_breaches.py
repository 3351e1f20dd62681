"""Decides, from an hour's figures and the alerts that there are, which alerts are new and which have changed. Pure: no Spark, no clock.

A breach is one rule above its bound in one hour for one group, an endpoint or a tag's value: whatever is counted again, it has one alert,
whose id says just that. Raised: above the bound, in an hour that is not over. Over: not above it any more, or the hour has ended.
"""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from jobs.alert_rules import TAG, Rule
from pipeline.topics import HOUR_MS

RAISED, OVER = "raised", "over"
# What became of telling the webhook: there is none; it has not taken the alert yet; it has.
NONE, WAITING, RECEIVED = "none", "waiting", "received"
# As many decimals as the table keeps.
STORED = Decimal("0.000000000001")
# So that an id is the same in every process and for ever.
IDS = uuid.UUID("6c0f6c53-5d43-4f0e-9df5-3d2f6d1b6a11")


@dataclass(frozen=True)
class Sums:
    """What the requests of an endpoint with these tags came to in an hour (epoch hours)."""

    hour: int
    endpoint: str
    tags: Mapping[str, str]
    requests: int
    errors: int = 0
    tokens: int = 0
    cost: Decimal = Decimal(0)


@dataclass(frozen=True)
class Figures:
    """What rules are judged by. `latencies`: requests and p95 in ms for each (by, group, hour)."""

    usage: tuple[Sums, ...] = ()
    costs: tuple[Sums, ...] = ()
    latencies: Mapping[tuple[str, str, int], tuple[int, Decimal]] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """A rule's figure for one group and hour that has requests enough."""

    rule: Rule
    group: str
    hour: int
    requests: int
    value: Decimal

    @property
    def alert_id(self) -> str:
        """The id of the alert that this is, or would be."""
        return str(uuid.uuid5(IDS, json.dumps([self.rule.name, self.rule.by, self.group, self.hour])))


@dataclass(frozen=True)
class Alert:
    """A row of `system.serving.alerts`. `value`: what the figure was when the alert was raised; `hour` counts from the epoch."""

    alert_id: str
    rule: str
    metric: str
    grouped_by: str
    group_value: str
    hour: int
    requests: int
    value: Decimal
    bound: Decimal
    state: str
    raised_ms: int
    ended_ms: int | None
    webhook: str
    received_ms: int | None = None

    @property
    def end_ms(self) -> int:
        """When its hour ends."""
        return (self.hour + 1) * HOUR_MS

    def as_json(self) -> dict[str, Any]:
        """What the webhook gets. Figures are texts, so that no reader rounds money."""
        by = self.grouped_by.removeprefix(TAG)
        hour = datetime.fromtimestamp(self.hour * 3_600, UTC)
        value, above = _plain(self.value), _plain(self.bound)
        said = f"{self.rule}: {self.metric} of {by} {self.group_value} is {value}, above {above}"
        return {
            "id": self.alert_id,
            "rule": self.rule,
            "metric": self.metric,
            "by": self.grouped_by,
            "group": self.group_value,
            "hour": f"{hour:%Y-%m-%dT%H:%M:%SZ}",
            "value": value,
            "above": above,
            "requests": self.requests,
            "state": self.state,
            "raised_at": f"{datetime.fromtimestamp(self.raised_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "text": f"{said}, in the hour from {hour:%Y-%m-%d %H:%M} UTC",
        }  # fmt: skip


def measure(rules: Iterable[Rule], figures: Figures) -> list[Measured]:
    """Each rule's figure for each group and hour that has requests enough."""
    found = []
    for rule in rules:
        for (group, hour), (requests, value) in _by_group(rule, figures).items():
            if requests >= rule.least and rule.only in (None, group):
                found.append(Measured(rule, group, hour, requests, value))
    return found


def judge(measured: Iterable[Measured], known: Mapping[str, Alert], now_ms: int, *, told: bool) -> list[Alert]:
    """The alerts that are new or whose state has changed. `told`: there is a webhook to tell of new ones."""
    changed = []
    for found in measured:
        above, alert = found.value > found.rule.above, known.get(found.alert_id)
        if alert is not None:
            now = _judged_again(alert, above, now_ms)
            if now != alert:
                changed.append(now)
        elif above:
            changed.append(_judged_again(_new(found, now_ms, WAITING if told else NONE), above, now_ms))
    return changed


def ended(known: Iterable[Alert], now_ms: int) -> list[Alert]:
    """The raised alerts whose hour has ended, as they are now: over."""
    return [_judged_again(alert, False, now_ms) for alert in known if alert.state == RAISED and now_ms >= alert.end_ms]


def _by_group(rule: Rule, figures: Figures) -> dict[tuple[str, int], tuple[int, Decimal]]:
    """Requests and the rule's figure, for each group and hour."""
    if rule.metric == "p95_latency_ms":
        return {(group, hour): found for (by, group, hour), found in figures.latencies.items() if by == rule.by}
    requests: dict[tuple[str, int], int] = defaultdict(int)
    sums: dict[tuple[str, int], Decimal] = defaultdict(Decimal)
    for row in figures.costs if rule.metric == "cost" else figures.usage:
        group = row.endpoint if rule.by == "endpoint" else row.tags.get(rule.by.removeprefix(TAG))
        if group is not None:
            requests[group, row.hour] += row.requests
            sums[group, row.hour] += row.cost if rule.metric == "cost" else row.tokens if rule.metric == "tokens" else row.errors
    return {key: (count, sums[key] / count if rule.metric == "error_rate" else sums[key]) for key, count in requests.items() if count}


def _new(found: Measured, now_ms: int, webhook: str) -> Alert:
    rule = found.rule
    return Alert(
        found.alert_id, rule.name, rule.metric, rule.by, found.group, found.hour, found.requests, found.value.quantize(STORED),
        rule.above.quantize(STORED), RAISED, now_ms, None, webhook,
    )  # fmt: skip


def _judged_again(alert: Alert, above: bool, now_ms: int) -> Alert:
    if above and now_ms < alert.end_ms:
        return replace(alert, state=RAISED, ended_ms=None)
    if alert.state == OVER:
        return alert
    # Late rows may raise an alert for an hour that is over already.
    return replace(alert, state=OVER, ended_ms=max(alert.raised_ms, min(now_ms, alert.end_ms)))


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
