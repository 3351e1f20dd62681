"""What travels as the value of a Kafka record: one model each, declared here and nowhere else.

    RequestRecord     gateway.requests, gateway.admitted     what another program produces
    AnswerRecord      gateway.responses                      what it gets back, whole
    StreamPiece       gateway.responses                      a piece of a stream
    StreamEnd         gateway.responses                      its end: the only record of a stream that is `final`
    InferenceRecord   gateway.records                        what the tables say happened; jobs/schemas.py derives Spark's schema
    DeadLetter        gateway.dead-letters                   bytes that nobody could read, with their place

Rules of change: add optional fields only; never rename one or change its type; readers ignore fields they do not know. The
golden file under tests/ pins the shapes. Nothing here decides; bad input raises pydantic's ValidationError, which the
caller turns into InvalidParameter or a dead letter.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MAX_REQUEST_ID_CHARS = 128
RequestId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_REQUEST_ID_CHARS, pattern=r"^[^\x00-\x1f\x7f]+$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Task = Literal["llm/v1/chat", "llm/v1/completions", "llm/v1/embeddings"]
EpochMs = Annotated[int, Field(ge=0, lt=253_402_300_800_000)]


class RequestRecord(BaseModel):
    """A request as any permitted producer may write it (contract, part 3). The last six fields are optional."""

    model_config = ConfigDict(extra="ignore", strict=True)

    request_id: RequestId
    endpoint: Name
    user: Name
    task: Task
    body: dict[str, Any]
    client_request_id: str | None = None
    usage_context: dict[str, str] | None = None
    deadline_ms: EpochMs | None = None
    reply_to: str | None = None
    reply_partition: Annotated[int, Field(ge=0, lt=100_000)] | None = None
    groups: list[str] | None = None


class GuardrailRun(BaseModel):
    """One guardrail that ran, found something or not. UNCHECKED: its engine failed, and the endpoint lets pass what can't be checked."""

    assessment_type: Literal["KEYWORD", "PII", "SAFETY", "TOPIC"]
    direction: Literal["input", "output"]
    result: Literal["PASSED", "BLOCKED", "MASKED", "UNCHECKED"]
    duration_ms: float


# Of a request that is replayed: which one it is a replay of, and with its answer what its row would have said.
REPLAY_OF_HEADER, REPLAYED_HEADER = "x-sluice-replay-of", "x-sluice-replayed"


class ReplayFacts(BaseModel):
    """What the answer to a replayed request tells beside itself, since it has no row to read that from."""

    input_tokens: int
    output_tokens: int
    guardrails: list[GuardrailRun] = []


class AnswerRecord(BaseModel):
    """An answer. `body` is the model's answer in OpenAI's shape, or the error in Databricks' form.

    The fields from `served_model` on are what the ingress needs for its headers; other readers may ignore them.
    """

    model_config = ConfigDict(extra="ignore")

    request_id: str
    status_code: int
    body: dict[str, Any]
    served_entity: str | None = None
    execution_time_ms: int = 0
    served_model: str | None = None
    run_id: str = ""
    attempts: int = 0
    retry_after_s: int | None = None
    rate_limit: dict[str, int] | None = None
    replayed: ReplayFacts | None = None


class StreamHead(BaseModel):
    """What is known of a stream when it begins, for the ingress' headers; stands in the piece with sequence 0."""

    model_config = ConfigDict(extra="ignore")

    served_entity: str | None = None
    served_model: str | None = None
    attempts: int = 0
    rate_limit: dict[str, int] | None = None


class StreamPiece(BaseModel):
    """A piece of a streamed answer: one chunk in OpenAI's shape (`chat.completion.chunk` or `text_completion`), without usage.

    `sequence` counts from 0 without gaps within a run; `run_id` tells runs apart: after a crash another run may begin again at 0.
    """

    model_config = ConfigDict(extra="ignore")

    request_id: str
    run_id: str = ""
    sequence: int
    chunk: dict[str, Any]
    head: StreamHead | None = None


class StreamEnd(BaseModel):
    """The end of a streamed answer of which pieces have gone out. `error` is in Databricks' form, None where all is well.

    A stream that fails before its first piece is answered with an AnswerRecord instead, as any other request.
    """

    model_config = ConfigDict(extra="ignore")

    request_id: str
    run_id: str = ""
    sequence: int
    final: Literal[True] = True
    status_code: int
    error: dict[str, Any] | None = None
    usage: dict[str, int] = {}
    execution_time_ms: int = 0
    retry_after_s: int | None = None


class Attempt(BaseModel):
    """One call of one served entity. `status_code` 0: no answer came (refused, timed out, garbage)."""

    served_entity_name: str
    status_code: int
    error: str | None = None
    execution_time_ms: int


class Assessment(BaseModel):
    """One finding: a row of the assessment table. `assessment_details` is JSON text, never the offending text itself."""

    assessment_type: Literal["KEYWORD", "PII", "SAFETY", "TOPIC"]
    assessment_result: Literal["BLOCKED", "MASKED"]
    assessment_details: str
    direction: Literal["input", "output"]


class InferenceTable(BaseModel):
    """Where an endpoint's rows go: `{catalog}.{schema}.{prefix}_request_response` and `..._assessment`."""

    catalog_name: str
    schema_name: str
    table_name_prefix: str


class InferenceRecord(BaseModel):
    """All that the tables will say of one request. Its Kafka key is the request id.

    `request` and `response` are JSON text in OpenAI's shape, whole (the table job nulls what is over 1 MiB).
    `timestamp_ms`: when the broker took the request; `execution_time_ms`: from then to the answer.
    `finish`: ok, refused (429), blocked (guardrail), rejected (400, 404, 409), failed (5xx), expired (504), abandoned (499).
    `run_id`: which run of the request this is; the first record in the log wins everywhere.
    `inference_table` None: the endpoint writes no such table.
    `replay_of`: the logged request that this one is a replay of. Such a record asks for no row: neither in an inference table nor in usage.
    """

    schema_version: Literal[1] = 1
    request_id: str
    run_id: str
    timestamp_ms: int
    endpoint_name: str
    endpoint_id: str | None = None
    config_version: int = 0
    requester: str
    client_request_id: str | None = None
    usage_context: dict[str, str] = {}
    tags: dict[str, str] = {}
    task: str
    request: str | None = None
    response: str | None = None
    status_code: int
    finish: str
    execution_time_ms: int
    time_to_first_token_ms: int | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    input_characters: int = 0
    output_characters: int = 0
    streaming: bool = False
    served_entity_name: str | None = None
    served_entity_id: str | None = None
    served_model_name: str | None = None
    attempts: list[Attempt] = []
    guardrails: list[GuardrailRun] = []
    assessments: list[Assessment] = []
    logging_error_codes: list[str] = []
    inference_table: InferenceTable | None = None
    usage_tracking: bool = False
    replay_of: str | None = None


class DeadLetter(BaseModel):
    """Bytes as they came (base64, since they may be anything), with the reason and their place in Kafka."""

    reason: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key_base64: str | None = None
    value_base64: str | None = None
