"""The child's side: says that it is ready, then answers one request after the other until its input ends.

It ends with its parent, whose death closes the pipe. Whatever libraries print goes to standard error: standard output is the answers'.
A request that fails is answered with the name of the error, never with its text, which could hold what was looked at. Signals that are
meant for the whole group are its parent's to answer.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from pipeline.children.frames import LENGTH, packed, unpacked


def serve(answer: Callable[[Any], Any], prepare: Callable[[], Any] | None = None) -> None:
    """Answer requests with what `answer` returns, until the pipe ends; `prepare` runs first, before anybody waits."""
    # A copy of standard output for answers; file descriptor 1 itself becomes standard error for everybody else.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    if prepare is not None:
        prepare()
    answers.write(packed("ready"))
    answers.flush()
    while (body := _next(sys.stdin.buffer)) is not None:
        try:
            said = {"answer": answer(unpacked(body))}
        except Exception as exc:
            said = {"error": type(exc).__name__}
        answers.write(packed(said))
        answers.flush()


def _next(requests: BinaryIO) -> bytes | None:
    """The next request; None where the pipe has ended."""
    head = requests.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack(head)
    body = requests.read(size)
    return body if len(body) == size else None
