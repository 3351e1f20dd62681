"""The fault matrix: every fault that is tried, and where. The suite's specification, and what its closing table is made of.

A row's `runs` are troubles (troubles.py) under load, with the checks of checks.py; its `tests` are files of tests, with a real broker where
the fault is the broker's. `says` is what the row does not try, and why.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One fault. `runs` and `tests` are names between blanks, tests below tests/."""

    number: int
    fault: str
    runs: str = ""
    tests: str = ""
    says: str = ""

    @property
    def files(self) -> list[str]:
        """Its tests, from the project's folder."""
        return [f"tests/{test}" for test in self.tests.split()]


MATRIX = (
    Row(1, "kill -9 of a worker with calls under way", runs="kills", tests="worker/test_kill.py worker/test_stream_kill.py"),
    Row(2, "the same on a group that has never committed", tests="worker/test_kill.py worker/test_commit.py"),
    Row(3, "SIGTERM during calls", runs="drains comings"),
    Row(4, "a guardrail, a table or a send that raises", tests="worker/test_guard.py worker/test_guardrail_engines.py"),
    Row(5, "a worker stopped beyond its session, and woken", runs="stops", tests="worker/test_watchdog.py"),
    Row(6, "workers that come and go under load", runs="comings", tests="worker/test_releasing.py"),
    Row(7, "kill -9 of the broker", runs="kills", tests="ingress/test_ingress_alone.py stack/test_kafka_server.py"),
    Row(8, "a broker that is away for a minute", says="five minutes by hand", tests="ingress/test_broker_away.py"),
    Row(9, "the broker's log is gone", tests="jobs/test_table_job_recovery.py"),
    Row(10, "latency, resets and half-open connections to the broker", tests="faults/test_network.py worker/test_session.py"),
    Row(11, "a provider that refuses, with 429, 500, HTML, 401", tests="providers/test_provider_client.py"),
    Row(12, "a provider that is away, drips, never ends, breaks off",
        tests="providers/test_provider_network.py providers/test_provider_streams.py worker/test_streams_at_the_door.py"),
    Row(13, "a provider that sends garbage and bombs", tests="providers/test_provider_wire.py providers/test_stream_forms.py"),
    Row(14, "all served entities fail", tests="providers/test_provider_client.py core/test_routing.py"),
    Row(15, "the same request id twice", tests="worker/test_door_kafka.py ingress/test_door_requests.py"),
    Row(16, "answers that come twice or late", tests="ingress/test_door_answers.py ingress/test_ingress_alone.py"),
    Row(17, "kill -9 of the table job between its tables", runs="kills", tests="jobs/test_table_job_killed.py"),
    Row(18, "a new checkpoint on old tables", tests="jobs/test_table_job_killed.py jobs/test_table_job_recovery.py"),
    Row(19, "records that are none", tests="worker/test_poison.py jobs/test_table_job.py"),
    Row(20, "OPTIMIZE, VACUUM and a new column during the stream", tests="jobs/test_table_job_disturbed.py"),
    Row(21, "a full disk under broker and table job", tests="faults/test_disk.py jobs/test_table_job_recovery.py"),
    Row(22, "clocks that are wrong", says="daylight saving: hours are UTC", tests="worker/test_clock.py"),
    Row(23, "limits under load, two workers", says="two workers, not eight: two cores",
        tests="worker/test_limits_at_the_door.py core/test_limits_machine.py"),
    Row(24, "a limiter that dies, and counts again", runs="kills stops drains comings", tests="core/test_limits.py simulation"),
    Row(25, "a guardrail's engine that dies, hangs, or meets a costly text",
        tests="worker/test_guardrail_engines.py core/test_pii_bounds.py ner/test_ner_bounds.py"),
    Row(26, "evasions, and every cut of a stream", tests="core/test_evasion.py core/test_pii_stream.py core/test_guarded_stream.py"),
    Row(27, "addresses that may not be called, keys that may not show",
        says="loopback and private addresses are called where the installation allows them",
        tests="providers/test_provider_addresses.py providers/test_provider_secrets.py worker/test_raw_text.py"),
    Row(28, "slow, large and broken clients", tests="ingress/test_door_bodies.py ingress/test_door_clients.py"),
    Row(29, "kill -9 of the ingress with clients waiting", runs="kills", tests="ingress/test_door_requests.py"),
    Row(30, "hours of load with restarts", says="`make bench-soak`: 200,000 requests, a restart every 20,000, memory drawn"),
)  # fmt: skip


def tests() -> list[str]:
    """All files that the rows name, each once."""
    return list(dict.fromkeys(file for row in MATRIX for file in row.files))
