"""How every part connects to Kafka: one place turns the settings into what aiokafka, Faust and Spark each want.

Makes no connection itself. TLS material that can't be read fails here, at start, with the file's name.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError
from faust.auth import SASLCredentials, SSLCredentials

import pipeline.kafka.closed_connections  # noqa: F401
from pipeline.kafka.pacing import paced
from pipeline.settings import Settings
from pipeline.topics import MAX_RECORD_BYTES

# Above a record's own limit, so that a record of exactly that size still fits with its headers.
MAX_REQUEST_BYTES = MAX_RECORD_BYTES + 65_536
# A connection can be open and lead nowhere: who waits on it gives it up after this time, and connects anew. No request of ours waits at the
# broker for longer than half a second, but those that join a group or make topics (worker/transport.py, admin.py).
REQUEST_TIMEOUT_S = 10.0
# How long the end of a producer may take.
STOP_S = 5.0


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
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka.split(","),
        "security_protocol": settings.kafka_security_protocol,
        "request_timeout_ms": int(REQUEST_TIMEOUT_S * 1000),
    }
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
    producer = AIOKafkaProducer(
        **client_options(settings), client_id=client_id, enable_idempotence=True, linger_ms=0, max_request_size=MAX_REQUEST_BYTES
    )  # fmt: skip
    return paced(producer)


def has_died(producer: AIOKafkaProducer) -> bool:
    """Whether the task that sends a started producer's records has ended: it takes no record any more."""
    return bool(producer._sender.sender_task.done())


async def stop_producer(producer: AIOKafkaProducer) -> None:
    """Write what waits and close, within STOP_S even where no broker answers; what is not written then fails for those who wait for it."""
    stopping = asyncio.ensure_future(producer.stop())
    done, _ = await asyncio.wait([stopping], timeout=STOP_S)
    if not done:
        # stop() waits for the broker without a limit (aiokafka 0.14), unless its sender ends.
        producer._message_accumulator.fail_all(KafkaTimeoutError())
        producer._sender.sender_task.cancel()
        await asyncio.wait([stopping])
    await _closed(stopping, producer.client)


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Close within STOP_S, even where no broker answers."""
    stopping = asyncio.ensure_future(consumer.stop())
    done, _ = await asyncio.wait([stopping], timeout=STOP_S)
    if not done:
        stopping.cancel()
        await asyncio.wait([stopping])
    await _closed(stopping, consumer._client)


async def _closed(stopping: asyncio.Future[None], client: Any) -> None:
    """The connections are closed too, where stopping was cut short: a fetch that waits for the broker ends it with CancelledError."""
    if stopping.cancelled():
        await client.close()
    else:
        stopping.result()


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
