"""A connection that was closed while nobody looked is a broken connection, whatever loop it is written from.

uvloop raises RuntimeError where a closed transport is written to. aiokafka (0.14) takes that for a mistake of its own: the task that
fetches ends, and its consumer reads nothing any more without a word (aiokafka's issue 1038). Here it becomes the KafkaConnectionError that
every part of aiokafka tries again after. Imported for what it does, by connection.py.
"""

from __future__ import annotations

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason

_send = AIOKafkaConnection.send


def send(self: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
    """As aiokafka's. Raises KafkaConnectionError where the connection is closed, by whomever."""
    if self._writer is not None and self._writer.transport.is_closing():
        self.close(reason=CloseReason.CONNECTION_BROKEN)
    return _send(self, request, expect_response)


AIOKafkaConnection.send = send
