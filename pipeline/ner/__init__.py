"""Names, places and other personal data that only a language model finds; asked for where an endpoint names them.

    pool = NerPool(children=2)                   in a worker: child processes, so that its event loop never waits
    spans = await pool.find(texts, entities, threshold, timeout_s=5.0)

    spans = find(texts, entities, threshold)     in a process that may wait: a Spark executor's pandas UDF

Importing this loads neither spaCy nor Presidio: a pool's children do, and `find` does when it is first called. What is found without
a model: pipeline/core/pii; `resolved` there makes one list of both.
"""

from pipeline.ner.finding import find
from pipeline.ner.pool import NerPool

__all__ = ["NerPool", "find"]
