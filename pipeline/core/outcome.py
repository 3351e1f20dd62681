"""What a request came to, and how that is told: the answer on the reply topic and the row for the tables.

`admit` (refusals) and `serve` (everything else) both end here, so that answer and row always agree. Pure: times come in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipeline.core.texts import answer_texts, characters, request_texts
from pipeline.endpoints import Endpoint
from pipeline.envelope import Envelope
from pipeline.errors import Abandoned, DeadlineExceeded, GuardrailBlocked, RateLimited, SluiceError
from pipeline.json_text import dump_text
from pipeline.records import (
    AnswerRecord,
    Assessment,
    Attempt,
    GuardrailRun,
    InferenceRecord,
    InferenceTable,
    ReplayFacts,
    RequestRecord,
    StreamEnd,
    StreamHead,
)


@dataclass(slots=True)
class Outcome:
    """Filled in as a request goes on. `body` is the answer in OpenAI's shape; `error` stands where there is none.

    `request` is the request as its row may keep it, personal data masked where the endpoint asks for that; None: nobody could look for
    it (yet). `unmasked`: the same of the answer, which went to the caller though nobody could look at it (`on_error: "allow"`).
    `time_to_first_token_ms`: from the request's append to the first piece of a stream; None where none went out.
    """

    request: dict[str, Any] | None = None
    unmasked: bool = False
    body: dict[str, Any] | None = None
    error: SluiceError | None = None
    served_entity: str | None = None
    served_model: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    time_to_first_token_ms: int | None = None
    attempts: list[Attempt] = field(default_factory=list)
    guardrails: list[GuardrailRun] = field(default_factory=list)
    assessments: list[Assessment] = field(default_factory=list)

    @property
    def status_code(self) -> int:
        """The status that answer and row carry."""
        return self.error.status_code if self.error else 200

    @property
    def answer_body(self) -> dict[str, Any]:
        """The answer, or the error in Databricks' form."""
        return self.error.body() if self.error else self.body or {}

    @property
    def usage(self) -> dict[str, int]:
        """The tokens, as an answer tells them."""
        return {
            "prompt_tokens": self.input_tokens,
            "completion_tokens": self.output_tokens,
            "total_tokens": self.input_tokens + self.output_tokens,
        }


def finish_of(error: SluiceError | None) -> str:
    """How a request ended, in one word for the rows."""
    match error:
        case None:
            return "ok"
        case GuardrailBlocked():
            return "blocked"
        case RateLimited():
            return "refused"
        case DeadlineExceeded():
            return "expired"
        case Abandoned():
            return "abandoned"
        case _:
            return "rejected" if error.status_code < 500 else "failed"


def answer_record(envelope: Envelope, outcome: Outcome, run_id: str, now_ms: int) -> AnswerRecord:
    """The answer as it goes to the reply topic."""
    return AnswerRecord.model_construct(
        request_id=envelope.request_id,
        status_code=outcome.status_code,
        body=outcome.answer_body,
        served_entity=outcome.served_entity,
        served_model=outcome.served_model,
        execution_time_ms=max(0, now_ms - envelope.appended_ms),
        run_id=run_id,
        attempts=len(outcome.attempts),
        retry_after_s=outcome.error.retry_after_s if outcome.error else None,
        rate_limit=envelope.rate_limit,
        replayed=_replay_facts(outcome) if envelope.replay_of else None,
    )


def _replay_facts(outcome: Outcome) -> ReplayFacts:
    return ReplayFacts.model_construct(
        input_tokens=outcome.input_tokens, output_tokens=outcome.output_tokens, guardrails=outcome.guardrails
    )


def stream_head(envelope: Envelope, outcome: Outcome) -> StreamHead:
    """What goes along with the first piece of a stream."""
    return StreamHead.model_construct(
        served_entity=outcome.served_entity,
        served_model=outcome.served_model,
        attempts=len(outcome.attempts),
        rate_limit=envelope.rate_limit,
    )


def stream_end(envelope: Envelope, outcome: Outcome, run_id: str, sequence: int, now_ms: int) -> StreamEnd:
    """The end of a stream of which `sequence` pieces have gone out."""
    return StreamEnd.model_construct(
        request_id=envelope.request_id,
        run_id=run_id,
        sequence=sequence,
        final=True,
        status_code=outcome.status_code,
        error=outcome.error.body() if outcome.error else None,
        usage=outcome.usage,
        execution_time_ms=max(0, now_ms - envelope.appended_ms),
        retry_after_s=outcome.error.retry_after_s if outcome.error else None,
    )


def inference_record(
    envelope: Envelope, request: RequestRecord | None, endpoint: Endpoint | None, outcome: Outcome, run_id: str, now_ms: int
) -> InferenceRecord:  # fmt: skip
    """The row. `request` None: its value could not be read; `endpoint` None: there is no such endpoint (any more).

    Text goes along only where a table is to keep it; the answer does always, since repeats of the request are answered from it.
    A replayed request asks for no row: whoever replays it keeps what came of it.
    """
    table = None if envelope.replay_of else inference_table(endpoint)
    codes = []
    if table is not None and request is not None and outcome.request is None:
        codes.append("REQUEST_NOT_MASKED")
    if outcome.unmasked and outcome.error is None:
        codes.append("RESPONSE_NOT_MASKED")
    return InferenceRecord.model_construct(
        request_id=envelope.request_id,
        run_id=run_id,
        timestamp_ms=envelope.appended_ms,
        endpoint_name=envelope.endpoint,
        endpoint_id=endpoint.endpoint_id if endpoint else None,
        config_version=endpoint.config_version if endpoint else 0,
        requester=envelope.user,
        client_request_id=request.client_request_id if request else None,
        usage_context=(request.usage_context or {}) if request else {},
        tags=endpoint.tag_map if endpoint else {},
        task=request.task if request else "unknown",
        request=dump_text(outcome.request) if table is not None and outcome.request is not None else None,
        response=None if "RESPONSE_NOT_MASKED" in codes else dump_text(outcome.answer_body),
        status_code=outcome.status_code,
        finish=finish_of(outcome.error),
        execution_time_ms=max(0, now_ms - envelope.appended_ms),
        time_to_first_token_ms=outcome.time_to_first_token_ms,
        streaming=request is not None and request.body.get("stream") is True,
        input_tokens=outcome.input_tokens,
        output_tokens=outcome.output_tokens,
        input_characters=characters(request_texts(request.body)) if request else 0,
        output_characters=characters(answer_texts(outcome.body)) if outcome.body and not outcome.error else 0,
        served_entity_name=outcome.served_entity,
        served_entity_id=f"{endpoint.endpoint_id}-{outcome.served_entity}" if endpoint and outcome.served_entity else None,
        served_model_name=outcome.served_model,
        attempts=outcome.attempts,
        guardrails=outcome.guardrails,
        assessments=outcome.assessments,
        logging_error_codes=codes,
        inference_table=table,
        usage_tracking=endpoint.usage_tracking if endpoint and not envelope.replay_of else False,
        replay_of=envelope.replay_of or None,
    )


def inference_table(endpoint: Endpoint | None) -> InferenceTable | None:
    """Where the endpoint's rows go, or None where it writes no inference table."""
    config = endpoint.ai_gateway.inference_table_config if endpoint else None
    if config is None or not config.enabled:
        return None
    return InferenceTable(
        catalog_name=config.catalog_name or "", schema_name=config.schema_name or "", table_name_prefix=config.table_name_prefix or ""
    )
