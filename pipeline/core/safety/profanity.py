"""How much a text reads like what people report as offensive: the linear model that the package alt-profanity-check ships.

The package (MIT) was trained on some 200,000 comments that people had labelled. Only its two data files are read, as data: no code of it
is run, no class but numpy's arrays is made, and neither it nor scikit-learn is imported, which would take a second and 120 MB. Its five
calibrated classifiers are taken together as one, which differs from the package's own answer by less than 0.05. Read at the first use;
ImportError where the package is not installed.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Sequence
from functools import cache
from math import sqrt
from pathlib import Path
from typing import Any

from joblib.numpy_pickle import NumpyUnpickler

PACKAGE = "profanity_check"
_DATA = frozenset(
    {("joblib.numpy_pickle", "NumpyArrayWrapper"), ("numpy", "dtype"), ("numpy", "ndarray"), ("numpy", "float64"),
     ("numpy._core.multiarray", "scalar"), ("numpy.core.multiarray", "scalar")}
)  # fmt: skip
# The model's own way to take a text apart.
_WORD = re.compile(r"\b\w\w+\b")


class _Fields:
    """Stands for an object of scikit-learn: its attributes, nothing of what it does."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class _Reader(NumpyUnpickler):  # type: ignore[misc]  # joblib has no types
    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("sklearn."):
            return _Fields
        if (module, name) not in _DATA:
            raise ImportError(f"{PACKAGE} holds a {module}.{name}, which is not what it held when it was pinned")
        return super().find_class(module, name)


def _read(path: Path) -> Any:
    with path.open("rb") as file:
        return _Reader(str(path), file, ensure_native_byte_order=True).load()


@cache
def _model() -> tuple[float, dict[str, tuple[float, float]]]:
    """The offset, and for each word its inverse document frequency and what it adds."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("the package alt-profanity-check is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    vectorizer, model = _read(folder / "vectorizer.joblib"), _read(folder / "model.joblib")
    parts = [(c.estimator, c.calibrators[0]) for c in model.calibrated_classifiers_]
    weights = sum(-s.a_ * e.coef_[0] for e, s in parts) / len(parts)
    offset = sum(-(s.a_ * float(e.intercept_[0]) + s.b_) for e, s in parts) / len(parts)
    idf = vectorizer._tfidf.idf_
    return float(offset), {word: (float(idf[i]), float(idf[i] * weights[i])) for word, i in vectorizer.vocabulary_.items()}


def parts(words: Sequence[str]) -> list[str]:
    """What the model takes for words in these, which are in lower case."""
    if not all(map(str.isalnum, words)):
        words = _WORD.findall(" ".join(words))
    return [word for word in words if len(word) > 1]


def log_odds(words: Iterable[str]) -> float:
    """The log odds that a text of these words is offensive; about -3 where there is nothing."""
    offset, table = _model()
    counts: dict[str, int] = {}
    for word in words:
        if word in table:
            counts[word] = counts.get(word, 0) + 1
    total = squares = 0.0
    for word, count in counts.items():
        idf, weight = table[word]
        total += count * weight
        squares += (count * idf) ** 2
    return offset + (total / sqrt(squares) if squares else 0.0)
