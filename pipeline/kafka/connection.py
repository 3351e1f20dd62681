"""How every part connects to Kafka: one place turns the settings into what aiokafka, Faust and Spark each want.

Makes no connection itself. TLS material that can't be read fails here, at start, with the file's name.
"""

from __future__ import annotations

import ssl
from typing import Any

from aiokafka import AIOKafkaProducer
from faust.auth import SASLCredentials, SSLCredentials

from pipeline.settings import Settings
from pipeline.topics import MAX_RECORD_BYTES

# Above a record's own limit, so that a record of exactly that size still fits with its headers.
MAX_REQUEST_BYTES = MAX_RECORD_BYTES + 65_536


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """The TLS context, or None where the protocol has no TLS."""
    if "SSL" not in settings.kafka_security_protocol.split("_"):
        return None
    context = ssl.create_default_context(cafile=str(settings.kafka_ssl_cafile) if settings.kafka_ssl_cafile else None)
    if settings.kafka_ssl_certfile:
        context.load_cert_chain(settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile)
    return context


def client_options(settings: Settings) -> dict[str, Any]:
    """Keyword arguments that every aiokafka client of this process takes."""
    options: dict[str, Any] = {"bootstrap_servers": settings.kafka.split(","), "security_protocol": settings.kafka_security_protocol}
    context = ssl_context(settings)
    if context is not None:
        options["ssl_context"] = context
    if settings.kafka_security_protocol.startswith("SASL"):
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": settings.kafka_sasl_password.get_secret_value() if settings.kafka_sasl_password else None,
        }
    return options


def new_producer(settings: Settings, client_id: str) -> AIOKafkaProducer:
    """A producer as all parts but the Faust app use it: idempotent (so acks=all), no linger."""
    return AIOKafkaProducer(
        **client_options(settings), client_id=client_id, enable_idempotence=True, linger_ms=0, max_request_size=MAX_REQUEST_BYTES
    )  # fmt: skip


def faust_credentials(settings: Settings) -> Any:
    """The same as Faust's credentials object, or None for a plaintext connection."""
    context = ssl_context(settings)
    if settings.kafka_security_protocol.startswith("SASL"):
        password = settings.kafka_sasl_password.get_secret_value() if settings.kafka_sasl_password else None
        return SASLCredentials(
            username=settings.kafka_sasl_username, password=password, mechanism=settings.kafka_sasl_mechanism, ssl_context=context
        )  # fmt: skip
    return SSLCredentials(context=context) if context is not None else None


def spark_options(settings: Settings) -> dict[str, str]:
    """The same as options of Spark's Kafka source (it passes `kafka.*` on to the Java client)."""
    options = {"kafka.bootstrap.servers": settings.kafka, "kafka.security.protocol": settings.kafka_security_protocol}
    if settings.kafka_ssl_cafile:
        options |= {"kafka.ssl.truststore.type": "PEM", "kafka.ssl.truststore.location": str(settings.kafka_ssl_cafile)}
    if settings.kafka_ssl_certfile:
        # The Java client wants key and certificate in one PEM file.
        options |= {"kafka.ssl.keystore.type": "PEM", "kafka.ssl.keystore.location": str(settings.kafka_ssl_certfile)}
    if settings.kafka_security_protocol.startswith("SASL"):
        module = "plain.PlainLoginModule" if settings.kafka_sasl_mechanism == "PLAIN" else "scram.ScramLoginModule"
        password = settings.kafka_sasl_password.get_secret_value() if settings.kafka_sasl_password else ""
        quoted = [text.replace("\\", "\\\\").replace('"', '\\"') for text in (settings.kafka_sasl_username or "", password)]
        options |= {
            "kafka.sasl.mechanism": settings.kafka_sasl_mechanism,
            "kafka.sasl.jaas.config": (
                f'org.apache.kafka.common.security.{module} required username="{quoted[0]}" password="{quoted[1]}";'
            ),
        }
    return options
