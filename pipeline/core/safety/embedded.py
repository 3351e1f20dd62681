"""Judges texts without a network: a lexicon by category, rules on what stands together, and a linear model of what people find offensive.

Each term found is evidence of so many log odds; one that comes again counts half each time. Evidence is summed over windows of WINDOW
words that overlap by half, so that a sentence of harm in a long text counts as much as alone, and the worst window decides. A text is
judged in every way it may be read. What it can't do: understand. Harm in plain words of its own (irony, allusion, rare languages) passes,
and a quotation may be flagged. `specialized-advice` is never found: bad advice looks like good.

Pure; never fails, but for ImportError where alt-profanity-check is not installed; time is linear in the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp, expm1, log, log1p

from pipeline.core.pii.normalise import readings
from pipeline.core.safety import lexicon, profanity, rules
from pipeline.core.safety.lexicon import Hit
from pipeline.core.safety.verdict import SafetyVerdict, merged, verdict

# As likely unsafe as not; which evidence that takes is _BIAS's to say.
THRESHOLD = 0.5

WINDOW = 24
SENTENCE = 12
# So many characters on either side of where two texts meet.
SEAM = 200
OFFENCE_WINDOW = 200
# For each category of the lexicon: the evidence at which it is as likely as not, and how much more makes it e times likelier.
_SCALES = {
    "sexual-content": (3.8, 1.6), "child-exploitation": (5.0, 1.9), "sex-crimes": (5.0, 1.9), "hate": (3.8, 1.6), "harassment": (3.8, 1.6),
    "violent-crimes": (6.4, 2.2), "self-harm": (3.8, 1.3), "indiscriminate-weapons": (3.8, 1.3), "non-violent-crimes": (3.8, 1.3),
    "privacy": (3.8, 1.3), "intellectual-property": (3.8, 1.3),
}  # fmt: skip
# The log odds where nothing was found, and that a text must reach beside them to be as likely unsafe as not: the loosest at which no more
# than 0.5 % of the tests' harmless sentences are flagged, alone and in pairs (tests/core/test_safety.py holds the rule).
_NOTHING, _BIAS = -2.2, -1.15
# What every e-fold of a text's windows takes off, and at most: padding must not hide anything.
_CHANCE, _MOST_CHANCE = 0.2, 1.0
# The share of the evidence that a text of one word needs, compared with one that fills a window.
_SHORTEST = 0.3
# The same for a sentence within a longer text.
_IN_A_SENTENCE = 0.8
# How much of the offence model's log odds counts.
_OFFENCE = 0.35
# Swearing at nobody is not unsafe: no more than so many log odds, unless there is so much evidence of hate or insult.
_UNDIRECTED, _DIRECTED = 2.0, 3.0
# Harmless words around harm can take off so much at most; a term of this weight says that the words in it, and no others, mean something
# else: a bath bomb is no bomb, and says nothing about a bomb beside it.
_MOST_AGAINST, _MEANS_OTHER = -4.0, -10.0
# Insults have no category of their own among the eleven.
_MEANS = {"harassment": "hate"}


def judge(text: str, threshold: float = THRESHOLD) -> SafetyVerdict:
    """What `text` is, as it stands and as it may be read; flagged from an overall score of `threshold` on."""
    views = dict.fromkeys(reading.text.lower().replace("’", "'") for reading in readings(text))
    return merged(_judged(view, threshold) for view in views)


def judge_texts(texts: Sequence[str], threshold: float = THRESHOLD) -> SafetyVerdict:
    """The verdict on all texts of one request or answer: each for itself, and what arises where one follows the other; the worst counts."""
    verdicts = [judge(text, threshold) for text in texts]
    before = ""
    for number, text in enumerate(texts):
        if number:
            verdicts.append(judge(f"{before} {text[:SEAM]}", threshold))
        before = f"{before} {text[-SEAM:]}"[-SEAM:]
    return merged(verdicts)


def _judged(text: str, threshold: float) -> SafetyVerdict:
    words = lexicon.words_of(text)
    hits = list(_weighed(_meant(lexicon.find(words))))
    windows = evidence(hits, len(words), WINDOW)
    # A short text has room for little evidence, and so has a sentence: harmless text around one must not hide it.
    alone = _SHORTEST + (1 - _SHORTEST) * min(1.0, len(words) / WINDOW)
    scaled = [(window, alone) for window in windows]
    if hits and len(words) > SENTENCE:
        scaled += [(window, _IN_A_SENTENCE) for window in evidence(hits, len(words), SENTENCE)]
    directed = max(window.get("harassment", 0.0) + window.get("hate", 0.0) for window in windows) >= _DIRECTED
    offence = _offence(words)
    offence = _OFFENCE * (offence if directed else min(offence, _UNDIRECTED))
    # Of many windows one is high by chance.
    bias = _BIAS - min(_CHANCE * log(len(windows)), _MOST_CHANCE)
    highest = _NOTHING
    odds: dict[str, float] = {}
    for window, scale in scaled:
        if not window:
            continue
        found = {name: min(amount / scale - _SCALES[name][0], 100.0) / _SCALES[name][1] for name, amount in window.items() if amount > 0}
        # The log odds that any of them holds, as if they were independent.
        together = sum(log1p(exp(one)) for one in (_NOTHING, *found.values()))
        highest = max(highest, log(expm1(together)))
        for name, one in found.items():
            meant = _MEANS.get(name, name)
            odds[meant] = max(odds.get(meant, _NOTHING), one)
    overall = highest + offence + bias
    scores = {name: _probability(min(one + offence + bias, overall)) for name, one in odds.items()}
    if offence > 0:
        # An offence in words that the lexicon does not have.
        scores["hate"] = max(scores.get("hate", 0.0), _probability(offence + _NOTHING + bias))
    return verdict(scores, threshold, _probability(overall))


def _probability(odds: float) -> float:
    return 1.0 / (1.0 + exp(-max(-30.0, min(odds, 30.0))))


def _offence(words: list[str]) -> float:
    """The offence model's log odds of the worst part of these words."""
    counted = profanity.parts(words)
    starts = range(0, max(1, len(counted) - OFFENCE_WINDOW // 2), OFFENCE_WINDOW // 2)
    return max(profanity.log_odds(counted[start : start + OFFENCE_WINDOW]) for start in starts)


def evidence(hits: Sequence[tuple[int, str, str, float]], words: int, window_words: int) -> list[dict[str, float]]:
    """What speaks for each category in a text of so many words, window by window; `hits`: place, category, term and weight."""
    half = window_words // 2
    windows: list[dict[str, float]] = [{} for _ in range(words // half + 1)]
    against: list[dict[str, float]] = [{} for _ in windows]
    shares: list[dict[tuple[str, str], float]] = [{} for _ in windows]
    for place, name, term, weight in hits:
        for number in range(max(0, place // half - 1), place // half + 1):
            share = shares[number].get((name, term), 1.0)
            shares[number][name, term] = share / 2
            side = windows[number] if weight > 0 else against[number]
            side[name] = side.get(name, 0.0) + weight * share
    for window, other in zip(windows, against, strict=True):
        for name, amount in other.items():
            if name in window:
                window[name] += max(amount, _MOST_AGAINST)
    return windows


def _meant(hits: list[Hit]) -> list[Hit]:
    """`hits` without those that share a word with a term which says that its words mean something else, and without these terms."""
    other = {
        place
        for hit in hits
        if hit.section.weight is not None and hit.section.weight <= _MEANS_OTHER
        for place in range(hit.place, hit.place + _length(hit))
    }
    if not other:
        return hits
    return [hit for hit in hits if other.isdisjoint(range(hit.place, hit.place + _length(hit)))]


def _length(hit: Hit) -> int:
    """The number of words that a term of the lexicon has."""
    return len(hit.term.replace("-", " ").split())


def _weighed(hits: list[Hit]) -> Iterator[tuple[int, str, str, float]]:
    """Place, category, term and weight of what counts: of several terms that begin at one word, the weightiest; and the rules'."""
    best: dict[tuple[int, str], tuple[str, float]] = {}
    for hit in hits:
        weight = hit.section.weight
        if weight is not None and abs(weight) > abs(best.get((hit.place, hit.section.name), ("", 0.0))[1]):
            best[hit.place, hit.section.name] = (hit.term, weight)
    for (place, name), (term, weight) in best.items():
        yield place, name, term, weight
    for hit in rules.apply(hits):
        yield hit.place, hit.section.name, hit.term, hit.section.weight or 0.0
