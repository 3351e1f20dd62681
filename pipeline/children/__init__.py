"""Child processes that do what an event loop must not wait for: long texts, language models.

    pool = ChildPool("names", "pipeline.ner.child", children=1)      in the process that must not wait
    answer = await pool.ask(request, timeout_s=5.0)

    serve(answer)                                                    in the child's own module

Fails closed: an answer is whole, or ChildUnavailable is raised.
"""

from pipeline.children.child import serve
from pipeline.children.pool import ChildPool, ChildUnavailable

__all__ = ["ChildPool", "ChildUnavailable", "serve"]
