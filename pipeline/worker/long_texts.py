"""Guardrails on long texts, in a process of their own: what takes more than some milliseconds must not hold up the worker's other calls.

`python -m pipeline.worker.long_texts` is the child.
"""

from __future__ import annotations

from typing import Any

from pipeline.children import ChildPool, serve
from pipeline.core.guardrails import Work, done_here


class LongTexts(ChildPool):
    """`do` from any number of tasks; raises ChildUnavailable."""

    def __init__(self, children: int = 1) -> None:
        super().__init__("long texts", "pipeline.worker.long_texts", children)

    async def do(self, work: Work, *, timeout_s: float) -> Any:
        """What `done_here` makes of `work`."""
        return await self.ask(work, timeout_s=timeout_s)


if __name__ == "__main__":
    serve(done_here)
