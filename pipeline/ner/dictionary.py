"""Is a word one of the English dictionary: by the word lists that ship with the spaCy model's lemmatizer.

Names of people and places are mostly not; so capitals can be given back to a text that was written without any.
"""

from __future__ import annotations

import re

from spacy.language import Language

# Words of a sentence; the parts of an address of the web or of a file are none.
_WORD = re.compile(r"(?<![\w.@/:\\\-])[^\W\d_]+(?![\w@/\\]|\.\w)")
# How a form of a word ends, and what the word itself ends in then.
_ENDINGS = (
    ("s", ""), ("es", ""), ("ies", "y"), ("ed", ""), ("ed", "e"), ("ied", "y"), ("ing", ""), ("ing", "e"), ("er", ""), ("er", "e"),
    ("est", ""), ("est", "e"), ("ly", ""), ("ally", "al"), ("ness", ""), ("less", ""), ("ful", ""),
)  # fmt: skip


class Dictionary:
    """The words that a loaded model knows as words."""

    def __init__(self, model: Language) -> None:
        lookups = model.get_pipe("lemmatizer").lookups  # type: ignore[attr-defined]
        words: set[str] = set(model.Defaults.stop_words)
        for name in ("lemma_index", "lemma_exc"):
            for entries in lookups.get_table(name).values():
                words.update(entries)
        self._words = words

    def __contains__(self, word: str) -> bool:
        word = word.lower()
        if word in self._words:
            return True
        for ending, instead in _ENDINGS:
            if word.endswith(ending) and len(word) > len(ending) + 2:
                stem = word[: len(word) - len(ending)]
                if stem + instead in self._words or (len(stem) > 3 and stem[-1] == stem[-2] and stem[:-1] in self._words):
                    return True
        return False

    def capitalised(self, text: str) -> str:
        """`text`, of the same length, with a capital for each word that is none of the dictionary."""

        def one(match: re.Match[str]) -> str:
            word = match.group()
            new = word if word in self else word[0].upper() + word[1:]
            return new if len(new) == len(word) else word

        return _WORD.sub(one, text)
