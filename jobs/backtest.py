"""What guardrails would have done to an endpoint's logged traffic: the worker's own code (pipeline/core/guardrails.py) over history.

    report = run(table, "my-endpoint", guardrails, days=7, settings=settings, now_ms=...)

Looked at is every row of that endpoint (others may share its table) in those days, but for those that no guardrail ever saw: refused
(limits) or rejected (bad input) without a guardrail run and without a call of a served entity. A provider's own 400 or 429 stays in.
Each rule is tried alone on each request, so its rate doesn't hang on the order of rules; what becomes of the request is the worst of them.
Answers are examined where one was delivered (status 200). Safety is judged by the embedded engine, whatever engine the installation's
workers ask.

What history can't tell:
- Personal data that was masked before the row was written is gone: where a PII guardrail found some then and the new rules look for some,
  it is taken to be found again, and counted as `assumed`. Keywords and topics that stood in the masked parts are lost: nothing finds
  them, and `masked` counts the requests concerned.
- Text that isn't in the row (over 1 MiB, or never masked) is counted, for requests and for delivered answers; so is text that is no body
  which guardrails can read (`not_checked`). The other side of such a row is examined all the same.
- Of a side that can't be examined, what it came to then is taken to come again. An answer that was blocked is such a side.

What a request came to then: BLOCKED where its row says so (`finish`), MASKED where a guardrail masked; one that was stopped because an
engine failed was blocked by nothing. Writes nothing. Raises BacktestFailed where the table isn't there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.delta import reason
from jobs.session import spark_session
from pipeline.core.guardrails import Direction, FindPersonalData, Rules, Work, compile_rules, done_here, driven, each, examine
from pipeline.core.pii import resolved
from pipeline.endpoints import NAME_PATTERN, Guardrails
from pipeline.errors import InvalidParameter
from pipeline.json_text import parse_object
from pipeline.ner import find as find_by_model
from pipeline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

DAY_MS = 86_400_000
# Prompts of a megabyte: so many rows at once fit into a Python process.
ROWS_AT_ONCE = 64
_COLUMNS = ("request_id", "timestamp_ms", "requester", "request", "response", "status_code", "finish", "guardrails")
_JUDGED = {
    "request_id": "STRING", "timestamp_ms": "LONG", "requester": "STRING", "was": "STRING", "would": "STRING", "delivered": "BOOLEAN",
    "masked": "BOOLEAN", "assumed": "BOOLEAN", "input": "STRING", "output": "STRING",
    "findings": "ARRAY<STRUCT<rule: STRING, result: STRING>>",
}  # fmt: skip
# A row that no guardrail saw says so by all three columns. In older rows they may be NULL: an empty list, and no reason to leave a row out.
_SEEN = "NOT (coalesce(finish, '') IN ('refused', 'rejected') AND coalesce(size(guardrails), 0) < 1 AND coalesce(size(attempts), 0) < 1)"
_WORST = {"PASSED": 0, "MASKED": 1, "BLOCKED": 2}
# What there was to examine on one side of a row. NOTHING: no rules, or no answer was delivered.
Side = Literal["EXAMINED", "NOTHING", "NO_TEXT", "NOT_CHECKED"]


class BacktestFailed(InvalidParameter):
    """The history can't be read."""


@dataclass(frozen=True, slots=True)
class RuleRate:
    """One rule of one direction: of how many requests it would have blocked or masked how many; `failed`: it could not be run."""

    rule: str
    examined: int
    blocked: int = 0
    masked: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Changed:
    """A request that would have ended otherwise. `was`, `would`: PASSED, MASKED or BLOCKED; `rules` say why."""

    request_id: str
    timestamp_ms: int
    requester: str
    was: str
    would: str
    rules: list[str]
    delivered: bool


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of one backtest.

    `without_text`, `without_answer`: of the requests those that have no text in the table, and those whose delivered answer has none.
    `not_checked`: by side ("input", "output"), of how many requests the text could not be read as a body. `masked`: parts of them were
    masked when they were logged; `assumed`: of those, whose personal data is taken to be found again.
    `stopped`: by requester, the requests whose answer was delivered and would not have been.
    """

    table: str
    endpoint: str
    days: int
    requests: int
    without_text: int
    without_answer: int
    not_checked: dict[str, int]
    masked: int
    assumed: int
    rates: list[RuleRate]
    changed: list[Changed]
    stopped: dict[str, list[str]] = field(default_factory=dict)

    def as_json(self) -> str:
        """The report as JSON text."""
        return json.dumps(asdict(self), indent=2)


def run(table: str, endpoint: str, guardrails: Guardrails, *, days: int, now_ms: int, settings: Settings) -> Report:
    """The report on `endpoint`'s requests of the last `days` days before `now_ms`, from `table` (catalog.schema.prefix)."""
    # It becomes part of a condition in SQL.
    if not re.fullmatch(NAME_PATTERN, endpoint):
        raise BacktestFailed(f"no endpoint can have the name '{endpoint}'")
    spark = spark_session(settings)
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(ROWS_AT_ONCE))
    name = f"{table}_request_response"
    try:
        rows = spark.table(".".join(f"`{part}`" for part in name.split(".")))
        history = rows.where(f"timestamp_ms >= {now_ms - days * DAY_MS} AND endpoint_name = '{endpoint}' AND {_SEEN}")
        judged = _judged(history, guardrails).persist()
        try:
            return _report(table, endpoint, days, judged, guardrails)
        finally:
            judged.unpersist()
    except PySparkException as exc:
        raise BacktestFailed(f"the history of {name} can't be read: {reason(exc)}") from None


def _judged(history: DataFrame, guardrails: Guardrails) -> DataFrame:
    before, after = compile_rules(guardrails.input), compile_rules(guardrails.output)

    def judge(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        import pandas

        for frame in frames:
            rows = [judged_row(row, before, after) for row in frame.to_dict("records")]
            yield pandas.DataFrame(rows, columns=list(_JUDGED))

    return history.select(*_COLUMNS).mapInPandas(judge, ", ".join(f"{name} {kind}" for name, kind in _JUDGED.items()))


def judged_row(row: dict[str, Any], before: Rules, after: Rules) -> dict[str, Any]:
    """What the rules would have made of one logged request; `row` holds the columns of the table that are named here, any of them NULL.

    Never raises for what stands in them: a side that can't be examined is said to be NO_TEXT or NOT_CHECKED.
    """
    blocked = row["finish"] == "blocked"
    # A run that says BLOCKED where no guardrail blocked the request is an engine that failed.
    ran = [run for run in (row["guardrails"] if row["guardrails"] is not None else ()) if run is not None]
    earlier = [run for run in ran if run["result"] == "MASKED" or (blocked and run["result"] == "BLOCKED")]
    delivered = bool(row["status_code"] == 200)
    assumed = False
    findings: list[dict[str, str]] = []
    results = []
    looked: dict[str, Side] = {}
    sides: list[tuple[Direction, Rules, Any]] = [("input", before, row["request"]), ("output", after, row["response"])]
    for direction, rules, text in sides:
        then = [run for run in earlier if run["direction"] == direction]
        # A blocked or failed request has an error in place of the answer.
        there = direction == "input" or delivered
        found, looked[direction] = _examined(rules, text, direction) if there else ([], "NOTHING")
        if any(run["assessment_type"] == "PII" for run in then):
            for place, (kind, result) in enumerate(found):
                if kind == "PII" and result == "PASSED":
                    found[place], assumed = (kind, "BLOCKED" if rules.pii == "BLOCK" else "MASKED"), True
        findings += [{"rule": f"{direction} {kind}", "result": result} for kind, result in found]
        of_side = [result for _, result in found]
        results += of_side
        if rules and (looked[direction] != "EXAMINED" or "UNCHECKED" in of_side):
            results += [run["result"] for run in then]
    return {
        "request_id": row["request_id"], "timestamp_ms": row["timestamp_ms"], "requester": row["requester"] or "",
        "was": "BLOCKED" if blocked else _worst(run["result"] for run in earlier), "would": _worst(results), "delivered": delivered,
        "masked": any(run["assessment_type"] == "PII" for run in earlier), "assumed": assumed, **looked, "findings": findings,
    }  # fmt: skip


def _worst(results: Iterable[str]) -> str:
    return max((result for result in results if result in _WORST), key=_WORST.__getitem__, default="PASSED")


def _examined(rules: Rules, text: Any, direction: Direction) -> tuple[list[tuple[str, str]], Side]:
    """What each of the rules says of one side's text, with its kind."""
    if not isinstance(text, str):
        return [], "NO_TEXT"
    if not rules:
        return [], "NOTHING"
    try:
        body = parse_object(text.encode())
        found = [(kind, driven(examine(rule, body, direction, lambda: 0.0), _do).runs) for kind, rule in each(rules)]
    # One odd row among a million must not end the examination of the others: whatever it raises, it is counted.
    except Exception:
        return [], "NOT_CHECKED"
    return [(kind, str(run.result)) for kind, runs in found for run in runs], "EXAMINED"


def _do(work: Work) -> Any:
    """As a worker does it, but here and now: this process may wait for a language model."""
    found = done_here(work)
    if isinstance(work, FindPersonalData) and work.by_model:
        return resolved([*found, *find_by_model(work.texts, work.by_model, work.threshold)])
    return found


def _report(table: str, endpoint: str, days: int, judged: DataFrame, guardrails: Guardrails) -> Report:
    counted = {
        "without_text": "input = 'NO_TEXT'", "without_answer": "output = 'NO_TEXT'", "masked": "masked", "assumed": "assumed",
        "input": "input = 'NOT_CHECKED'", "output": "output = 'NOT_CHECKED'",
    }  # fmt: skip
    totals = judged.agg(F.count("*").alias("requests"), *(F.count_if(F.expr(what)).alias(name) for name, what in counted.items())).first()
    assert totals is not None
    by_rule = judged.select(F.explode("findings").alias("f")).groupBy("f.rule").pivot("f.result", [*_WORST, "UNCHECKED"]).count()
    counts = {row["rule"]: row.asDict() for row in by_rule.collect()}
    rates = []
    sides = [("input", compile_rules(guardrails.input)), ("output", compile_rules(guardrails.output))]
    for rule in (f"{direction} {kind}" for direction, rules in sides for kind, _ in each(rules)):
        n = {result: counts.get(rule, {}).get(result) or 0 for result in (*_WORST, "UNCHECKED")}
        rates.append(RuleRate(rule, sum(n.values()), n["BLOCKED"], n["MASKED"], n["UNCHECKED"]))
    changed = [
        Changed(
            row["request_id"], row["timestamp_ms"], row["requester"], row["was"], row["would"],
            [f["rule"] for f in row["findings"] if f["result"] in ("BLOCKED", "MASKED")], row["delivered"],
        )
        for row in judged.where("was != would").orderBy("timestamp_ms", "request_id").toLocalIterator()
    ]  # fmt: skip
    stopped: dict[str, list[str]] = {}
    for one in changed:
        if one.delivered and one.would == "BLOCKED":
            stopped.setdefault(one.requester, []).append(one.request_id)
    return Report(
        table, endpoint, days, totals["requests"], totals["without_text"], totals["without_answer"],
        {side: totals[side] for side in ("input", "output")}, totals["masked"], totals["assumed"], rates, changed, stopped,
    )  # fmt: skip
