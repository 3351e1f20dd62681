"""Texts as the pieces in which a model elsewhere is asked about them, and several questions at once within one deadline.

Texts are joined, so that what is said across two of them stands in one piece too, and cut with an overlap, so that what stands at a cut is
whole on one side of it. Nothing is left out: what takes more than MOST_QUESTIONS is a SafetyUnavailable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from pipeline.core.safety import SafetyVerdict
from pipeline.core.safety.verdict import merged
from pipeline.safety.asking import SafetyUnavailable

# So many questions about one request at the same time, and altogether.
AT_ONCE = 4
MOST_QUESTIONS = 64
Question = TypeVar("Question")


def pieces(texts: Sequence[str], between: str, size: int, overlap: int) -> list[str]:
    """`texts` joined by `between`, in pieces of at most `size` bytes of UTF-8, each of which repeats the last `overlap` characters of the
    one before. Bytes, since a character beyond ASCII is a token or more. `overlap` must be less than a quarter of `size`.

    Empty texts are left out, and so are pieces of white space only.
    """
    whole = between.join(text for text in texts if text.strip())
    cut, end = [], 0
    while end < len(whole):
        start = max(0, end - overlap)
        piece = whole[start : start + size]
        # Never to less than a quarter: no character has more than four bytes.
        while not piece.isascii() and (length := len(piece.encode("utf-8", "surrogatepass"))) > size:
            piece = piece[: len(piece) * size // length]
        end = start + len(piece)
        if piece.strip():
            cut.append(piece)
    return cut


async def ask_all(
    name: str, questions: Sequence[Question], ask: Callable[[Question], Awaitable[SafetyVerdict]], timeout_s: float
) -> SafetyVerdict:
    """The merged verdict on all `questions` of the engine `name`, within `timeout_s` for all of them together.

    A question without a verdict makes SafetyUnavailable, unless another one's is "unsafe", which no failure may hide.
    """
    if not questions:
        return merged(())
    if len(questions) > MOST_QUESTIONS:
        raise SafetyUnavailable(f"the {name} engine can't be asked: the texts are too long, they would take {len(questions)} calls")
    free = asyncio.Semaphore(AT_ONCE)

    async def one(question: Question) -> SafetyVerdict:
        async with free:
            return await ask(question)

    tasks = [asyncio.create_task(one(question)) for question in questions]
    try:
        await asyncio.wait(tasks, timeout=timeout_s)
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    verdicts = [end for end in ends if isinstance(end, SafetyVerdict)]
    if len(verdicts) == len(questions) or any(verdict.flagged for verdict in verdicts):
        return merged(verdicts)
    for end in ends:
        if isinstance(end, Exception):
            raise end
    raise SafetyUnavailable(f"the {name} engine did not answer within {timeout_s:.3g} s")
