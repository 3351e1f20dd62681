"""`system.serving.list_prices`: what a token of each model costs from when on, as one small file of the operator's says it.

    - model: gpt-4o
      valid_from: 2026-01-01
      input_per_million: "2.50"
      output_per_million: "10.00"

The file is the truth: applying it puts its rows in the place of all others, and the table's history keeps the earlier ones. Prices are
Decimal and of one currency, whichever that is. Fails with InvalidParameter that names the entry.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pyspark.sql import SparkSession
from pyspark.sql.types import DecimalType, StringType, StructField, StructType, TimestampType

from jobs.delta import DeltaFolder
from pipeline.endpoints import describe
from pipeline.errors import InvalidParameter

NAME = ("system", "serving", "list_prices")
# A millionth of a millionth: a price for a million tokens has six decimals more than one for a token.
PRICE = DecimalType(20, 12)
LIST_PRICES = StructType(
    [
        StructField("model", StringType(), nullable=False),
        StructField("valid_from", TimestampType(), nullable=False),
        StructField("input_token_price", PRICE, nullable=False),
        StructField("output_token_price", PRICE, nullable=False),
    ]
)
MILLION = Decimal(1_000_000)


def _moment(value: Any) -> Any:
    """YAML gives a day as a date; without a zone a time is UTC's."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


def _exact(value: Any) -> Any:
    """Written as 2.5 or "2.5", it is two and a half; a float is not asked what it really is."""
    return str(value) if isinstance(value, float) else value


Money = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, lt=10_000_000, decimal_places=6)]


class Price(BaseModel):
    """One entry of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1, max_length=256)
    valid_from: Annotated[datetime, BeforeValidator(_moment)]
    input_per_million: Money
    output_per_million: Money


def read_prices(document: Any, source: str) -> list[Price]:
    """The entries of a file's document. Raises InvalidParameter."""
    try:
        prices = TypeAdapter(list[Price]).validate_python(document)
    except ValidationError as exc:
        raise InvalidParameter(f"{source} is no list of prices: {describe(exc)}") from None
    seen = set()
    for price in prices:
        if (price.model, price.valid_from) in seen:
            raise InvalidParameter(f"{source} has two prices of {price.model} from {price.valid_from:%Y-%m-%d %H:%M}; leave one out")
        seen.add((price.model, price.valid_from))
    return prices


def list_prices(spark: SparkSession, warehouse: Path) -> DeltaFolder:
    """The table, made empty where it is not there."""
    table = DeltaFolder(spark, warehouse.joinpath(*NAME))
    table.create(LIST_PRICES, ("model", "valid_from"))
    return table


def apply_prices(spark: SparkSession, warehouse: Path, prices: list[Price]) -> None:
    """Put `prices` in the place of what is in the table, in one commit."""
    rows = [(p.model, p.valid_from, p.input_per_million / MILLION, p.output_per_million / MILLION) for p in prices]
    table = list_prices(spark, warehouse)
    spark.createDataFrame(rows, LIST_PRICES).write.format("delta").mode("overwrite").save(str(table.path))
