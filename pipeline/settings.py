"""The settings of one process, read once at its start: command line first, then `SLUICE_...` variables, then the defaults.

The only place that reads the environment for the gateway itself (provider keys are read by providers/secrets.py at the moment of
a call). Objects are frozen; nothing else keeps settings. Wrong values fail at start, with the variable's name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """All settings; each has the variable `SLUICE_<NAME>`. Durations are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", frozen=True, extra="ignore")

    # --- where things are
    data: Path = Field(Path(".sluice"), description="folder of the broker's log, the tables, checkpoints and logs")
    kafka: str = Field("127.0.0.1:9092", description="bootstrap servers, HOST:PORT[,HOST:PORT]")
    warehouse: Path | None = Field(None, description="folder of the Delta tables; DATA/warehouse unless given")
    bind: str = Field("127.0.0.1", description="address the ingress listens on")
    port: int = Field(8080, ge=0, le=65_535, description="port the ingress listens on")

    # --- Kafka's security (contract: SASL and TLS)
    kafka_security_protocol: str = Field("PLAINTEXT", pattern="^(PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL)$")
    kafka_sasl_mechanism: str = Field("PLAIN", pattern="^(PLAIN|SCRAM-SHA-256|SCRAM-SHA-512)$")
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_cafile: Path | None = None
    kafka_ssl_certfile: Path | None = None
    kafka_ssl_keyfile: Path | None = None
    kafka_replication_factor: int = Field(1, ge=1, le=9)

    # --- limits of a request
    deadline_s: float = Field(120.0, gt=0, le=3_600, description="total time of a request, over all attempts")
    max_body_bytes: int = Field(4 * 1024 * 1024, gt=0, le=8 * 1024 * 1024)
    max_waiting: int = Field(5_000, gt=0, description="requests one ingress holds open at once; beyond it 503")
    reply_partition: int = Field(0, ge=0, description="the partition of gateway.responses that this ingress reads")
    reply_topics: str = Field("gateway.responses", description="reply topics that producers may name, comma-separated")
    raw_text_retention_s: int = Field(3_600, ge=1, description="how long gateway.requests and gateway.admitted keep text")

    # --- the worker
    worker_id: str = "worker-0"
    max_in_flight_per_endpoint: int = Field(2_000, gt=0, description="provider calls under way, per endpoint and worker")
    max_queued_per_endpoint: int = Field(500, ge=0, description="requests that wait for such a slot; beyond it 503")
    repeat_window_s: int = Field(
        900, gt=0, description="how long a finished request is answered again, not called again; its deadline at least"
    )
    session_timeout_s: float = Field(10.0, gt=0)
    max_provider_bytes: int = Field(8 * 1024 * 1024, gt=0, description="the largest provider answer that is read")
    secrets: Path | None = Field(None, description="folder of secrets, DIR/SCOPE/KEY, beside the environment")
    openai_api_base: str = "https://api.openai.com/v1"
    anthropic_api_base: str = "https://api.anthropic.com"
    allow_private_providers: bool = Field(False, description="whether providers on loopback and private addresses may be called")

    # --- guardrails
    guardrail_timeout_s: float = Field(10.0, gt=0, le=15, description="how long one guardrail may take before the request is stopped")
    ner_processes: int = Field(1, ge=1, le=64, description="processes for each worker that look for names, about 170 MB each")
    safety_engine: Literal["embedded", "openai", "llama-guard"] = Field("embedded", description="who judges what is unsafe")
    safety_url: str | None = Field(None, description="base address of a remote safety engine, such as http://HOST:PORT/v1")
    safety_model: str | None = Field(None, description="its model; for openai omni-moderation-latest unless given")
    safety_key: str | None = Field(None, description="its key as a reference {{secrets/SCOPE/KEY}}, read at every call")

    # --- the table job
    trigger_s: float = Field(4.0, gt=0, description="from the start of one micro-batch to the start of the next, at least")
    max_offsets_per_trigger: int = Field(60_000, gt=0)
    alerts: Path | None = Field(None, description="file of alert rules (YAML), reread when it changes")
    retention: str = Field(
        "", pattern=r"^([\w.*?-]+=[1-9]\d{0,4}(,|$))*$",
        description="days that tables keep rows, TABLE=DAYS[,TABLE=DAYS], e.g. main.logs.*=30; others keep theirs for ever",
    )  # fmt: skip

    @field_validator("data", "warehouse")
    @classmethod
    def _no_address(cls, value: Path | None) -> Path | None:
        """A path would quietly make a local folder `s3a:` of an address."""
        if value is not None and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(value)):
            raise ValueError("must be a folder on a file system that this machine mounts, no object store's address (deploy/cluster.md)")
        return value

    @property
    def warehouse_dir(self) -> Path:
        """The folder of the Delta tables, absolute."""
        return (self.warehouse or self.data / "warehouse").resolve()

    @property
    def dashboard_file(self) -> Path:
        """The page that `sluice dashboard` makes and the ingress serves."""
        return self.data / "dashboard" / "index.html"
