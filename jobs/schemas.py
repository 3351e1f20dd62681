"""Every table's columns, and Spark's reading of a record's JSON, derived from pipeline.records.

Nothing is declared twice: what comes from gateway.records has the types of `InferenceRecord`, and the tables are projections of it
whose order and names are the contract's (part 4). tests/jobs/golden pins both. Pure: no Spark session is needed.
"""

from __future__ import annotations

import types
import typing
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pyspark.sql.types import (  # fmt: skip
    ArrayType,
    BinaryType,
    BooleanType,
    DataType,
    DateType,
    DoubleType,
    IntegerType,
    LongType,
    MapType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)  # fmt: skip

from pipeline.records import InferenceRecord

# Python has one int; these are the columns that the contract has as INT.
INT_FIELDS = {"status_code", "schema_version", "partition"}
SCALARS: dict[Any, DataType] = {str: StringType(), int: LongType(), float: DoubleType(), bool: BooleanType()}


def struct_of(model: type[BaseModel]) -> StructType:
    """The Spark type that holds a record of this model; every field nullable, since any JSON may come."""
    fields = model.model_fields.items()
    return StructType([StructField(name, IntegerType() if name in INT_FIELDS else _type_of(info.annotation)) for name, info in fields])


def required_fields(model: type[BaseModel]) -> list[str]:
    """The fields without which a record is no such record."""
    return [name for name, info in model.model_fields.items() if info.is_required()]


def default_of(info: FieldInfo) -> Any:
    """What a missing optional field stands for."""
    return None if info.is_required() else info.get_default(call_default_factory=True)


def _type_of(annotation: Any) -> DataType:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        (inner,) = [a for a in arguments if a is not type(None)]
        return _type_of(inner)
    if origin is typing.Literal:
        return _type_of(type(arguments[0]))
    if origin is list:
        return ArrayType(_type_of(arguments[0]))
    if origin is dict:
        return MapType(_type_of(arguments[0]), _type_of(arguments[1]))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return struct_of(annotation)
    return SCALARS[annotation]


RECORD = struct_of(InferenceRecord)


def _columns(declared: str) -> StructType:
    """`name` alone takes the record's type; `name TYPE` says its own."""
    fields = []
    for entry in declared.split():
        name, _, kind = entry.partition(":")
        fields.append(StructField(name, _OWN_TYPES[kind] if kind else RECORD[name].dataType, nullable=not kind.endswith("!")))
    return StructType(fields)


_STRINGS = MapType(StringType(), StringType())
_FOUNDATION = StructType([StructField("min_provisioned_throughput", LongType()), StructField("max_provisioned_throughput", LongType())])
_CUSTOM = StructType(
    [
        StructField("min_concurrency", IntegerType()),
        StructField("max_concurrency", IntegerType()),
        StructField("compute_type", StringType()),
    ]
)
_OWN_TYPES: dict[str, DataType] = {
    "string": StringType(), "string!": StringType(), "int": IntegerType(), "long": LongType(), "double": DoubleType(),
    "boolean": BooleanType(), "date": DateType(), "timestamp": TimestampType(), "binary": BinaryType(), "map": _STRINGS,
    "foundation": _FOUNDATION, "custom": _CUSTOM, "external": StructType([StructField("provider", StringType())]),
}  # fmt: skip

REQUEST_RESPONSE = _columns(
    "request_id:string! timestamp_ms request response status_code execution_time_ms input_tokens output_tokens "
    "request_date:date client_request_id endpoint_name served_entity_name served_model_name requester streaming time_to_first_token_ms "
    "tags usage_context attempts guardrails config_version finish logging_error_codes"
)
ASSESSMENT = _columns(
    "request_id timestamp_ms assessment_type:string assessment_result:string assessment_details:string "
    "assessment_date:date direction:string endpoint_name requester"
)
# Databricks' columns first. `finish` comes last: the rollup must tell what a guardrail blocked from other 400s.
ENDPOINT_USAGE = _columns(
    "workspace_id:string account_id:string client_request_id databricks_request_id:string requester status_code request_time:timestamp "
    "input_token_count:long output_token_count:long input_character_count:long output_character_count:long usage_context "
    "request_streaming:boolean served_entity_id endpoint_name served_entity_name tags execution_time_ms finish"
)
SERVED_ENTITIES = _columns(
    "served_entity_id account_id:string workspace_id:string created_by:string endpoint_name endpoint_id served_entity_name "
    "entity_type:string entity_name:string entity_version:string endpoint_config_version:int task external_model_config:external "
    "foundation_model_config:foundation custom_model_config:custom feature_spec_config:custom "
    "change_time:timestamp endpoint_delete_time:timestamp tags"
)
USAGE_HOURLY = _columns(
    "hour:timestamp endpoint_name served_entity_name requester tags requests:long input_tokens output_tokens "
    "avg_latency_ms:double p95_latency_ms:double errors:long rate_limited:long blocked:long"
)
DEAD_LETTERS = _columns("topic:string partition:int offset:long reason:string timestamp_ms key:binary value:binary")

# The landing table: what came, in the order it came, before it is spread over the tables above. `landing_seq` numbers the batches;
# topic, partition and offset are the record's own place, source_... the place of the bytes that a dead letter tells of.
LANDING = StructType(
    [
        StructField("landing_seq", LongType(), nullable=False),
        StructField("kind", StringType(), nullable=False),
        StructField("request_id", StringType()),
        StructField("timestamp_ms", LongType()),
        *_columns(
            "topic:string partition:int offset:long appended_ms:long "
            "source_topic:string source_partition:int source_offset:long reason:string key:binary value:binary"
        ).fields,
        *[f for f in RECORD.fields if f.name not in ("request_id", "timestamp_ms", "schema_version")],
    ]
)
