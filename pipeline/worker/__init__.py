"""What a worker process does: the Faust agents, their tables, and how they commit. Decisions are in pipeline/core."""

from pipeline.worker.app import main

__all__ = ["main"]
