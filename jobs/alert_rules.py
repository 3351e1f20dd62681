"""The operator's file of alert rules and the webhook that is told, reread when it changes.

    alerts:
      - {name: too many errors, metric: error_rate, above: 0.05, by: endpoint}
      - {name: what a team spends, metric: cost, above: "25.00", by: "tag:team"}
    webhook:
      url: https://alerts.example.com/sluice
      headers: {authorization: "Bearer {{secrets/alerts/token}}"}

A field that is not known is refused. Fails with InvalidParameter that names file, rule and remedy, and repeats nothing of the webhook,
whose address may be a secret itself; where a changed file is wrong, that is logged once and the rules from before stay in force.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import httpx
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipeline.endpoints import SECRET_REFERENCE, describe
from pipeline.errors import InvalidParameter
from pipeline.providers.secrets import is_reference

log = logging.getLogger(__name__)

# Below this a share or a percentile says little: one failed request at night is no alarm.
MIN_REQUESTS = 20
RATES = ("error_rate", "p95_latency_ms")
TAG = "tag:"
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]+")


def _number(value: Any) -> Any:
    """Written as 0.05 or "0.05", it is exactly that; a float is not asked what it really is."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("is no number")
    try:
        return Decimal(str(value))
    except InvalidOperation:
        raise ValueError("is no number") from None


class Rule(BaseModel):
    """One rule: which figure of an hour may not be above what, by which groups."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=100)
    metric: Literal["error_rate", "p95_latency_ms", "tokens", "cost"]
    above: Annotated[Decimal, BeforeValidator(_number), Field(ge=0, lt=10**15, decimal_places=12)]
    by: str
    only: str | None = Field(None, min_length=1)
    min_requests: int | None = Field(None, ge=1, strict=True)

    @field_validator("by")
    @classmethod
    def _known_group(cls, by: str) -> str:
        if not re.fullmatch(r"endpoint|tag:\S.*", by):
            raise ValueError("write endpoint, or tag:NAME as in tag:team")
        return by

    @model_validator(mode="after")
    def _fits_its_metric(self) -> Self:
        if self.metric == "error_rate" and self.above >= 1:
            raise ValueError(f"above {self.above} can't happen: error_rate is a share, so that 0.05 stands for 5 in 100")
        if self.min_requests is not None and self.metric not in RATES:
            raise ValueError(f"min_requests is for {' and '.join(RATES)}, and would be ignored for {self.metric}; remove it")
        return self

    @property
    def least(self) -> int:
        """How many requests an hour must have to be judged."""
        return (self.min_requests or MIN_REQUESTS) if self.metric in RATES else 1


class Webhook(BaseModel):
    """Who is told. `{{secrets/SCOPE/KEY}}` in the address and in headers' values is filled in at every call."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    headers: Mapping[str, str] = {}

    @field_validator("url")
    @classmethod
    def _an_address(cls, url: str) -> str:
        _check_references(url)
        if SECRET_REFERENCE.match(url):
            return url
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            raise ValueError("is no address; it looks like https://HOST/PATH") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError("is no address; it looks like https://HOST/PATH, or is a reference {{secrets/SCOPE/KEY}} to one")
        return url

    @field_validator("headers")
    @classmethod
    def _fit_for_http(cls, headers: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError("a header's name has other characters than letters, digits and -")
            if not _HEADER_VALUE.fullmatch(value):
                raise ValueError(f"the value of header {name} is empty or has line ends or characters beyond ASCII")
            _check_references(value)
        return headers


def _check_references(text: str) -> None:
    rest = SECRET_REFERENCE.sub("", text)
    if "{{" in rest or not all(is_reference(match[0]) for match in SECRET_REFERENCE.finditer(text)):
        raise ValueError("has {{...}} that is no reference; it looks like {{secrets/SCOPE/KEY}}")


@dataclass(frozen=True)
class Rules:
    """What a file says. Without a webhook alerts stand in the table alone."""

    rules: tuple[Rule, ...] = ()
    webhook: Webhook | None = None


def read_rules(path: Path) -> Rules:
    """The rules of a file. Raises InvalidParameter."""
    document = _document(path)
    if not isinstance(document, dict) or not isinstance(document.get("alerts"), list):
        raise InvalidParameter(f"{path} has no list of rules under `alerts:`; `alerts: []` stands for none")
    unknown = [str(key) for key in document if key not in ("alerts", "webhook")]
    if unknown:
        raise InvalidParameter(f"{path}: {', '.join(unknown)} is not supported here and would be ignored; remove it")
    rules = [_rule(path, number, entry) for number, entry in enumerate(document["alerts"], 1)]
    for name, count in Counter(rule.name for rule in rules).items():
        if count > 1:
            raise InvalidParameter(
                f"{path} has {count} rules with the name {name}; an alert is known by its rule's name: give each its own"
            )
    return Rules(tuple(rules), _webhook(path, document["webhook"]) if document.get("webhook") is not None else None)


def _document(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise InvalidParameter(f"{path} can't be read: {exc.strerror}; SLUICE_ALERTS names the file of alert rules") from None
    except UnicodeDecodeError:
        raise InvalidParameter(f"{path} is not UTF-8; store it as such") from None
    except yaml.YAMLError as exc:
        # Its own text would quote the line, which may hold a secret.
        mark = getattr(exc, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark else ""
        raise InvalidParameter(f"{path} is not YAML{place}; put a value with {{{{...}}}} or a colon in quotes") from None


def _rule(path: Path, number: int, entry: Any) -> Rule:
    try:
        return Rule.model_validate(entry)
    except ValidationError as exc:
        name = entry.get("name") if isinstance(entry, dict) else None
        raise InvalidParameter(f"{path}, rule {number}{f' ({name})' if name else ''}: {describe(exc)}") from None


def _webhook(path: Path, entry: Any) -> Webhook:
    try:
        return Webhook.model_validate(entry)
    except ValidationError as exc:
        errors = [(".".join(map(str, e["loc"])) or "it", e["msg"].removeprefix("Value error, ")) for e in exc.errors(include_url=False)]
        raise InvalidParameter(f"{path}, webhook: {'; '.join(f'{place}: {message}' for place, message in errors)}") from None


class RulesFile:
    """The file at `path` as it is now, or as it last was when it was right. `problem`: what is wrong with it at present."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem: str | None = None
        self._rules = Rules()
        self._seen: tuple[int, ...] | None = ()

    def rules(self) -> Rules:
        """The rules in force; the same object as long as they are the same."""
        seen = self._state()
        if seen != self._seen:
            self._seen = seen
            try:
                self._rules, self.problem = read_rules(self.path), None
                log.info("%d alert rules from %s", len(self._rules.rules), self.path)
            except InvalidParameter as exc:
                self.problem = exc.message
                log.error("%s. Until it is mended, %d alert rules of before stay in force", exc.message, len(self._rules.rules))
        return self._rules

    def _state(self) -> tuple[int, ...] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
