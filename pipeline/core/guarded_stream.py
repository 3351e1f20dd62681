"""Output guardrails over a streamed answer: held back whole and examined at its end, as an answer that comes whole. Pure."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from pipeline.core.guardrails import Rules, Work, examine
from pipeline.core.together import Together
from pipeline.errors import SluiceError
from pipeline.records import Assessment, GuardrailRun


class StreamExamination:
    """`feed` each chunk, `finish` at the end: both come to the chunks that may go out. `error` set: nothing more is released."""

    def __init__(self, rules: Rules, clock_s: Callable[[], float]) -> None:
        self._rules, self._clock_s = rules, clock_s
        self._together = Together()
        self._last: dict[str, Any] = {}
        self.error: SluiceError | None = None
        self.runs: list[GuardrailRun] = []
        self.assessments: list[Assessment] = []

    def feed(self, chunk: dict[str, Any]) -> Generator[Work, Any, list[dict[str, Any]]]:
        """Take the next chunk."""
        self._together.add(chunk)
        self._last = chunk
        return []
        yield

    def finish(self) -> Generator[Work, Any, list[dict[str, Any]]]:
        """The stream has ended."""
        finding = yield from examine(self._rules, self._together.body({}), "output", self._clock_s)
        self.runs, self.assessments, self.error = list(finding.runs), list(finding.assessments), finding.error
        if finding.error is not None or finding.body is None:
            return []
        choices = [
            {"index": c["index"], "delta": c["message"], "finish_reason": c["finish_reason"]} if "message" in c else c
            for c in finding.body["choices"]
        ]
        return [{**{name: value for name, value in self._last.items() if name != "usage"}, "choices": choices}]
