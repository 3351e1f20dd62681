"""What the ingress makes of the records that come for one streamed request: which run it follows, what is new, and how it ends.

    pieces of a run     followed from sequence 0 on; a lower number again is a double
    the end of the run  ends the stream, well or with an error
    a whole answer      before any piece: an error as it stands, or the answer of a repeated request, which becomes one chunk;
                        after pieces of the same run: what is still missing of it (the worker died before it could tell the end)
    another run         after text has gone out, nothing can be taken back: the stream ends with TEMPORARILY_UNAVAILABLE

Rules of the records: contract, part 3, and pipeline/records.py. Pure; records have been checked by pipeline/ingress/replies.py `decode`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.core.together import TEXTS, as_chunk
from pipeline.errors import SluiceError, Unavailable


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as an answer over Kafka tells it."""

    status_code: int
    error_code: str
    message: str
    retry_after_s: int | None = None

    @classmethod
    def of(cls, error: SluiceError) -> Failure:
        """An error that the ingress itself has found."""
        return cls(error.status_code, error.error_code, error.message, error.retry_after_s)

    @classmethod
    def told(cls, status_code: int, body: Any, retry_after_s: int | None) -> Failure | None:
        """What a record says, its error in Databricks' form; None where it tells of none."""
        if status_code < 400:
            return None
        body = body if isinstance(body, dict) else {}
        return cls(status_code, str(body.get("error_code", SluiceError.error_code)), str(body.get("message", "")), retry_after_s)


_LOST = Failure.of(
    Unavailable("the worker of this answer was lost; ask again, with the same Idempotency-Key to get it whole", retry_after_s=1)
)
_GAP = Failure.of(Unavailable("pieces of this answer are missing; ask again", retry_after_s=1))


class Following:
    """One client's stream. `head` is there as soon as something may go out; `ended`: nothing more comes; `error`: why not."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._run_id: str | None = None
        self._next = 0
        # How many characters of each text have gone out, by choice and place; what comes only once stands there with None.
        self._gone: dict[tuple[int, Any], int | None] = {}
        self.head: dict[str, Any] | None = None
        self.ended = False
        self.error: Failure | None = None
        self.usage: dict[str, int] | None = None

    @property
    def begun(self) -> bool:
        """Whether a chunk has been handed out."""
        return self._run_id is not None

    def take(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        """The chunks that a record adds to the stream."""
        if self.ended:
            return []
        run_id = record.get("run_id") or ""
        if "body" in record:
            return self._whole(record, run_id)
        if self._run_id not in (None, run_id):
            if record["sequence"] == 0:
                self._end(_LOST)
            return []
        if record["sequence"] < self._next or (self._run_id is None and record["sequence"] > 0):
            # A double, or pieces of a stream of which another asker has had the beginning.
            return []
        if record["sequence"] > self._next:
            self._end(_GAP)
            return []
        return self._piece(record, run_id) if "chunk" in record else self._finished(record)

    def _piece(self, record: dict[str, Any], run_id: str) -> list[dict[str, Any]]:
        if self._run_id is None:
            self._run_id, self.head = run_id, record.get("head") or {}
        self._next += 1
        for place, length in _said(record["chunk"]):
            known = self._gone.get(place, 0)
            self._gone[place] = None if length is None or known is None else known + length
        return [record["chunk"]]

    def _finished(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        if self._run_id is None:
            return []
        self.usage = record.get("usage") or {}
        self._end(Failure.told(record["status_code"], record.get("error"), record.get("retry_after_s")))
        return []

    def _whole(self, answer: dict[str, Any], run_id: str) -> list[dict[str, Any]]:
        error = Failure.told(answer["status_code"], answer["body"], answer.get("retry_after_s"))
        if self._run_id not in (None, run_id):
            error = _LOST
        if self._run_id is None:
            self.head = answer
        usage = answer["body"].get("usage")
        self.usage = usage if isinstance(usage, dict) else {}
        self._end(error)
        if error is not None:
            return []
        chunk = as_chunk(answer["body"], self._task)
        chunk["choices"] = [choice for choice in map(self._rest, chunk["choices"]) if choice is not None]
        self._run_id = run_id
        return [chunk] if chunk["choices"] else []

    def _end(self, error: Failure | None) -> None:
        self.ended, self.error = True, error

    def _rest(self, choice: dict[str, Any]) -> dict[str, Any] | None:
        """What of a whole choice has not gone out; None: nothing is missing."""
        index = choice["index"]
        if not any(place[0] == index for place in self._gone):
            return choice
        if (index, "finish_reason") in self._gone:
            return None
        rest = {"index": index, "finish_reason": choice.get("finish_reason")}
        if "delta" not in choice:
            return {**rest, "text": choice.get("text", "")[self._gone.get((index, "text")) or 0 :]}
        delta = choice["delta"]
        said: dict[str, Any] = {
            name: delta[name][self._gone.get((index, name)) or 0 :] for name in TEXTS if isinstance(delta.get(name), str)
        }
        calls = [made for call in delta.get("tool_calls") or () if (made := self._rest_of_call(index, call))]
        if calls:
            said["tool_calls"] = calls
        return {**rest, "delta": {name: value for name, value in said.items() if value}}

    def _rest_of_call(self, index: int, call: dict[str, Any]) -> dict[str, Any] | None:
        if (index, call["index"]) not in self._gone:
            return call
        arguments = call.get("function", {}).get("arguments", "")[self._gone[index, call["index"]] or 0 :]
        return {"index": call["index"], "function": {"arguments": arguments}} if arguments else None


def _said(chunk: dict[str, Any]) -> Iterator[tuple[tuple[int, Any], int | None]]:
    """What a chunk tells: places, and how many characters of each; None where a place has only one value."""
    for choice in chunk["choices"]:
        index = choice.get("index", 0)
        delta = choice.get("delta") or choice
        for name in TEXTS:
            if isinstance(delta.get(name), str):
                yield (index, name), len(delta[name])
        for call in delta.get("tool_calls") or ():
            function = call.get("function") or {}
            yield (index, call.get("index", 0)), len(function.get("arguments") or "")
        if choice.get("finish_reason"):
            yield (index, "finish_reason"), None
