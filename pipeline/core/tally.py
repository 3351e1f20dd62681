"""What the guardrails of one streamed answer came to, summed over all its texts: one run and at most one assessment for each kind.

Work is asked for through `ask`, which measures it and decides what an engine's failure means: the stream ends (503), or the kind counts
as UNCHECKED and is not asked again where the endpoint lets pass what can't be checked. Pure; never fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from typing import Any, Literal

from pipeline.core.guardrails import EngineFailed, Finding, Kind, Rules, Work, blocked, unavailable
from pipeline.errors import SluiceError
from pipeline.json_text import dump_text, parse
from pipeline.records import Assessment, GuardrailRun

Result = Literal["PASSED", "MASKED", "UNCHECKED", "BLOCKED"]
# The later of two holds for the whole.
_WEIGHTS: tuple[Result, ...] = ("PASSED", "MASKED", "UNCHECKED", "BLOCKED")


class Tally:
    """`error` set: the stream ends with it. `personal_data`: findings so far, by entity."""

    def __init__(self, rules: Rules, clock_s: Callable[[], float]) -> None:
        self._rules, self._clock_s = rules, clock_s
        configured: dict[Kind, Any] = {"PII": rules.pii, "KEYWORD": rules.keywords, "SAFETY": rules.safety}
        self._kinds = [kind for kind, is_on in configured.items() if is_on]
        self._results: dict[Kind, Result] = {}
        self._took_ms: dict[Kind, float] = dict.fromkeys(self._kinds, 0.0)
        self._details: dict[Kind, dict[str, Any]] = {}
        self.personal_data: Counter[str] = Counter()
        self.error: SluiceError | None = None

    @property
    def runs(self) -> list[GuardrailRun]:
        """Each guardrail that ran, in the order in which those of a whole answer do."""
        return [
            GuardrailRun(assessment_type=kind, direction="output", result=self._results[kind], duration_ms=round(self._took_ms[kind], 3))
            for kind in self._kinds
            if kind in self._results
        ]

    @property
    def assessments(self) -> list[Assessment]:
        """One for each guardrail that found something."""
        made = []
        for kind in self._kinds:
            details = self._details.get(kind)
            result: Literal["BLOCKED", "MASKED"] = "BLOCKED"
            if details is None and kind == "PII" and self.personal_data:
                details, result = self._found(), "MASKED"
            if details is not None:
                told = dump_text(details)
                made.append(Assessment(assessment_type=kind, assessment_result=result, assessment_details=told, direction="output"))
        return made

    def _found(self) -> dict[str, Any]:
        return {"entities": dict(sorted(self.personal_data.items()))}

    def gave_up(self, kind: Kind) -> bool:
        """Whether this guardrail's engine has failed, so that it is not asked any more."""
        return self._results.get(kind) == "UNCHECKED"

    def ask(self, kind: Kind, work: Work) -> Generator[Work, Any, Any]:
        """What `work` comes to; None where the engine fails."""
        started_s = self._clock_s()
        self.note(kind, "PASSED")
        try:
            return (yield work)
        except EngineFailed as exc:
            if self._rules.lets_pass:
                self.note(kind, "UNCHECKED")
            else:
                self._stop(kind, {"error": str(exc)}, unavailable(kind, str(exc)))
            return None
        finally:
            self._took_ms[kind] += (self._clock_s() - started_s) * 1000

    def note(self, kind: Kind, result: Result) -> None:
        """One more result of this guardrail."""
        self._results[kind] = max(self._results.get(kind, "PASSED"), result, key=_WEIGHTS.index)

    def block(self, kind: Kind, details: dict[str, Any]) -> None:
        """The guardrail found what ends the stream."""
        self._stop(kind, details, blocked(kind, details, "output"))

    def block_personal_data(self) -> None:
        """The same for personal data, which is counted already."""
        self.block("PII", self._found())

    def add(self, finding: Finding) -> None:
        """What an examination of a whole part said."""
        for run in finding.runs:
            self.note(run.assessment_type, run.result)
            self._took_ms[run.assessment_type] += run.duration_ms
        for assessment in finding.assessments:
            details = parse(assessment.assessment_details.encode())
            if assessment.assessment_type == "PII":
                self.personal_data.update(details.get("entities", {}))
                if assessment.assessment_result == "BLOCKED" and "entities" in details:
                    details = self._found()
            if assessment.assessment_result == "BLOCKED":
                self._details[assessment.assessment_type] = details
        self.error = finding.error

    def complete(self) -> None:
        """The stream has ended: every guardrail has seen all there was."""
        for kind in self._kinds:
            self.note(kind, "PASSED")

    def _stop(self, kind: Kind, details: dict[str, Any], error: SluiceError) -> None:
        self.note(kind, "BLOCKED")
        self._details[kind] = details
        self.error = error
