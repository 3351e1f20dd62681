"""A child of the pool, `python -m pipeline.ner.child`: loads the model, then looks for names in what it is given."""

from pipeline.children import serve
from pipeline.ner.finding import find


def _prepare() -> None:
    # The first use of everything that is loaded late.
    find(["Alice lives in Paris."], None, 0.0)


if __name__ == "__main__":
    serve(lambda request: find(*request), _prepare)
