"""Alerts of the running table job and the webhook that is told: once for each breach, whatever dies, comes late or is away."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs import alerts, table_job
from jobs.alert_rules import read_rules
from jobs.prices import Price, apply_prices
from pipeline.records import InferenceRecord
from pipeline.topics import HOUR_MS
from tests.jobs.receiver import Receiver
from tests.jobs.recount import Rows, percentile, utc
from tests.jobs.running_job import NOW_MS, RunningJob, endpoint, record
from tests.jobs.test_table_job_recovery import obstacle

pytestmark = pytest.mark.timeout(240)

TABLE = "system.serving.alerts"
HOUR = NOW_MS // HOUR_MS - 1
TOKEN = "a-token-that-no-log-may-hold"


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


@dataclass
class Alerting:
    """The running job with a file of rules, a webhook, and a clock that stands still until it is put on."""

    job: RunningJob
    file: Path
    receiver: Receiver
    now_ms: int = HOUR * HOUR_MS + HOUR_MS // 2

    def rule(self, *rules: dict[str, Any], webhook: bool = True) -> None:
        """These rules from now on, and no others; the job, which may look at any moment, never finds half of them."""
        told = {"url": self.receiver.url, "headers": {"authorization": "Bearer {{secrets/alerts/token}}"}}
        whole = self.file.with_suffix(".new")
        whole.write_text(yaml.safe_dump({"alerts": list(rules), **({"webhook": told} if webhook else {})}))
        whole.replace(self.file)

    def requests(self, name: str, count: int, *, settle: bool = True, **fields: Any) -> None:
        """So many requests of an endpoint, in the hour of the clock unless `fields` say otherwise, in the tables and judged."""
        usual = {"endpoint_name": name, "usage_tracking": True, "timestamp_ms": self.now_ms - 1000}
        self.job.produce([record(**{**usual, **fields}) for _ in range(count)])
        if settle:
            self.judged()

    def judged(self) -> None:
        """Return when all that lies in Kafka has been judged by the file as it is, and written."""
        self.job.settle()
        rules, found = read_rules(self.file), self.job.run.alerts
        assert found is not None
        self.job.until(lambda: found._evaluated == (rules, self.job.run.fanout.rollups) and not found._unsaved)

    def received(self, rule: str, count: int) -> list[dict[str, Any]]:
        """What the webhook has of a rule, once that is so much, and the table says so too."""
        self.job.until(lambda: len(self.got(rule)) >= count)
        self.job.until(lambda: all(row["webhook"] != "waiting" for row in self.rows(rule)))
        return self.got(rule)

    def got(self, rule: str) -> list[dict[str, Any]]:
        return [body for body in self.receiver.got if body["rule"] == rule]

    def rows(self, rule: str) -> Rows:
        return sorted(self.job.rows(TABLE, f"rule = '{rule}'"), key=lambda row: (row["hour"], row["group_value"]))


@pytest.fixture(scope="module")
def running(job: RunningJob, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alerting]:
    folder = tmp_path_factory.mktemp("alerts")
    before, receiver = job.settings, Receiver()
    (folder / "alerts").mkdir()
    (folder / "alerts" / "token").write_text(TOKEN)
    made = Alerting(job, folder / "alerts.yaml", receiver)
    made.rule()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"LOOK_EVERY_S": 0.02, "EVALUATE_EVERY_S": 0.1, "FIRST_PAUSE_S": 0.05, "LONGEST_PAUSE_S": 0.3}.items():
            patch.setattr(alerts, name, value)
        patch.setattr(table_job, "STATUS_EVERY_S", 0.2)
        patch.setattr(alerts, "now_ms", lambda: made.now_ms)
        job.crash()
        job.settings = before.model_copy(update={"alerts": made.file, "secrets": folder})
        job.start()
        try:
            yield made
        finally:
            job.crash()
            receiver.stop()
            job.settings = before
            job.start()


@pytest.fixture
def alerting(running: Alerting) -> Iterator[Alerting]:
    """Each test finds the webhook there, the clock at the middle of an hour, and no rules but its own."""
    running.now_ms = HOUR * HOUR_MS + HOUR_MS // 2
    running.receiver.on_post = lambda: None
    running.receiver.stop()
    running.receiver.start()
    yield running


def test_a_breach_is_one_row_and_one_post_whatever_comes_after_it(alerting: Alerting) -> None:
    rule, name = "too many errors", "alerts-errors"
    alerting.rule({"name": rule, "metric": "error_rate", "above": 0.5, "by": "endpoint", "only": name, "min_requests": 4})
    alerting.requests(name, 3, settle=False, status_code=500)
    alerting.requests(name, 1)
    (told,) = alerting.received(rule, 1)
    (row,) = alerting.rows(rule)
    assert told == {
        "id": row["alert_id"], "rule": rule, "metric": "error_rate", "by": "endpoint", "group": name, "value": "0.75", "above": "0.5",
        "hour": f"{moment(HOUR * HOUR_MS):%Y-%m-%dT%H:00:00Z}", "requests": 4, "state": "raised",
        "raised_at": f"{moment(alerting.now_ms):%Y-%m-%dT%H:30:00Z}", "text": told["text"],
    }  # fmt: skip
    assert alerting.receiver.headers[-1]["authorization"] == f"Bearer {TOKEN}"
    assert (row["value"], row["bound"], row["state"], row["ended_at"]) == (Decimal("0.75"), Decimal("0.5"), "raised", None)
    assert (utc(row["hour"]), utc(row["raised_at"])) == (moment(HOUR * HOUR_MS), moment(alerting.now_ms))

    def state() -> tuple[str, int]:
        (same,) = alerting.rows(rule)
        assert same["alert_id"] == row["alert_id"] and same["raised_at"] == row["raised_at"]
        return same["state"], len(alerting.got(rule))

    alerting.job.restart()
    alerting.requests(name, 1, status_code=429)
    assert state() == ("raised", 1)

    # The hour ends without another request; the next one has a breach of its own, and late rows of the first have none.
    alerting.now_ms = (HOUR + 1) * HOUR_MS + 120_000
    alerting.job.until(lambda: state() == ("over", 1))
    assert utc(alerting.rows(rule)[0]["ended_at"]) == moment((HOUR + 1) * HOUR_MS)
    alerting.requests(name, 4, settle=False, status_code=502)
    alerting.requests(name, 1, status_code=502, timestamp_ms=HOUR * HOUR_MS + 1)
    first, second = alerting.received(rule, 2)
    assert first == told and second["id"] != told["id"] and second["hour"] == f"{moment((HOUR + 1) * HOUR_MS):%Y-%m-%dT%H:00:00Z}"
    assert [(r["state"], r["webhook"]) for r in alerting.rows(rule)] == [("over", "received"), ("raised", "received")]


def test_costs_tokens_and_latencies_by_tag(alerting: Alerting) -> None:
    name, by = "alerts-spends", "tag:alerts-team"
    old = datetime(2026, 1, 1, tzinfo=UTC)
    model = Price(model="gpt-4o", valid_from=old, input_per_million=Decimal("2.5"), output_per_million=Decimal(10))
    apply_prices(alerting.job.spark, alerting.job.warehouse, [model])
    alerting.job.produce([endpoint(name)])
    alerting.job.settle()
    alerting.rule(
        {"name": "dear", "metric": "cost", "above": "0.0000175", "by": by},
        {"name": "long", "metric": "tokens", "above": 1_006, "by": by},
        {"name": "slow", "metric": "p95_latency_ms", "above": 300, "by": by, "min_requests": 5},
        {"name": "one", "metric": "tokens", "above": 1, "by": by, "only": "ads"},
    )
    served = {"endpoint_name": name, "served_entity_name": "first", "served_entity_id": f"id-of-{name}-first", "usage_tracking": True}

    def made(team: str, times: Iterable[int], requester: str, **fields: Any) -> list[InferenceRecord]:
        usual = {**served, "timestamp_ms": alerting.now_ms, "tags": {"alerts-team": team}, "requester": requester, **fields}
        return [record(**{**usual, "execution_time_ms": ms}) for ms in times]

    # Seven tokens of input are 0.0000175 exactly, which is not above it; and what nobody knows a price of costs nothing.
    alerting.job.produce(
        [
            *made("ads", (10, 10, 10, 10), "alice@example.com", input_tokens=0, output_tokens=0),
            *made("ads", (500,), "bob@example.com", input_tokens=7, output_tokens=0),
            *made("search", (10, 10, 10), "alice@example.com", input_tokens=1, output_tokens=1),
            *made("search", (310, 320), "bob@example.com", input_tokens=500, output_tokens=500),
            *made("unpriced", (9_000,) * 4, "alice@example.com", served_entity_id=None, input_tokens=500, output_tokens=3),
        ]
    )
    alerting.judged()
    found = {rule: {row["group_value"]: row["value"] for row in alerting.rows(rule)} for rule in ("dear", "long", "slow", "one")}
    slow = {"ads": percentile([10, 10, 10, 10, 500], 0.95), "search": percentile([10, 10, 10, 310, 320], 0.95)}
    assert found == {
        "dear": {"search": Decimal("0.0125375")},
        "long": {"search": 2006, "unpriced": 2012},
        "slow": {team: Decimal(repr(round(value, 6))) for team, value in slow.items()},
        "one": {"ads": 7},
    }
    assert {body["group"]: body["value"] for body in alerting.received("dear", 1)} == {"search": "0.0125375"}
    assert not (alerting.job.warehouse / "system" / "serving" / "cost_hourly").exists()
    # Another group of the same rule and hour.
    alerting.job.produce(made("ads", (10,), "alice@example.com", input_tokens=1, output_tokens=0))
    alerting.judged()
    assert [body["group"] for body in alerting.received("dear", 2)] == ["search", "ads"]


def test_what_a_webhook_that_is_away_misses_it_gets_later_even_from_another_run(
    alerting: Alerting, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jobs")
    rule, name = "while away", "alerts-away"
    alerting.rule({"name": rule, "metric": "tokens", "above": 0, "by": "endpoint", "only": name}, webhook=False)
    alerting.requests(name, 1, timestamp_ms=(HOUR - 1) * HOUR_MS)
    (never,) = alerting.rows(rule)
    assert (never["webhook"], never["state"]) == ("none", "over")

    alerting.receiver.stop()
    alerting.rule({"name": rule, "metric": "tokens", "above": 0, "by": "endpoint", "only": name})
    alerting.requests(name, 1)
    found = alerting.job.run.alerts
    assert found is not None
    alerting.job.until(lambda: any(tries.count > 2 for tries in found._tries.values()))
    # Rows of other tables do not wait for it.
    alerting.job.produce([record(("alerts", "logs", "a"), request_id="alerts-1")])
    alerting.job.settle()
    assert [row["request_id"] for row in alerting.job.rows("alerts.logs.a_request_response")] == ["alerts-1"]
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(told) == 1 and "does not take alerts: no connection" in told[0]
    alerting.job.until(lambda: str(alerting.job.status()["alerts_problem"]).startswith("the webhook does not take them: no connection"))

    # There again, it refuses first; the next run tells it, once, and not of what was raised while there was none.
    alerting.receiver.status = 503
    alerting.receiver.start()
    alerting.job.until(lambda: alerting.receiver.refused > 0)
    assert alerting.rows(rule)[-1]["webhook"] == "waiting"
    alerting.job.restart(lambda: setattr(alerting.receiver, "status", 204))
    (body,) = alerting.received(rule, 1)
    alerting.requests(name, 1)
    earlier, row = alerting.rows(rule)
    assert earlier == never and row["alert_id"] == body["id"] and row["webhook"] == "received"
    assert alerting.got(rule) == [body]
    alerting.job.until(lambda: alerting.job.status()["alerts_problem"] is None)
    assert "hidden-path" not in caplog.text and TOKEN not in caplog.text


def test_a_kill_between_telling_and_writing_that_down_tells_again_with_the_same_id(alerting: Alerting) -> None:
    rule, name = "told twice", "alerts-twice"
    alerting.rule({"name": rule, "metric": "tokens", "above": 0, "by": "endpoint", "only": name})
    with ExitStack() as until_it_is_over:

        def break_the_table() -> None:
            alerting.receiver.on_post = lambda: None
            until_it_is_over.enter_context(obstacle(alerting.job.warehouse / "system" / "serving" / "alerts"))

        alerting.receiver.on_post = break_the_table
        alerting.requests(name, 1, settle=False)
        alerting.job.settle()
        alerting.job.until(lambda: alerting.got(rule))
        alerting.job.crash()
    assert [row["webhook"] for row in alerting.rows(rule)] == ["waiting"]
    alerting.job.start()
    first, second = alerting.received(rule, 2)
    (row,) = alerting.rows(rule)
    assert first == second and row["alert_id"] == first["id"]
