"""What stands together: classes of words near each other that say more than each alone, as hits of a category. Pure."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from pipeline.core.safety.lexicon import Hit, Section


@dataclass(frozen=True, slots=True)
class Rule:
    """`classes` in this order, each at most `span` words after the one before."""

    category: str
    weight: float
    classes: tuple[str, ...]
    span: int


RULES = (
    Rule("hate", 3.0, ("group", "copula", "derogation"), 3),
    Rule("hate", 3.0, ("group", "vermin"), 1),
    Rule("hate", 2.0, ("group", "derogation"), 5),
    Rule("hate", 2.0, ("derogation", "group"), 4),
    Rule("hate", 2.5, ("generalisation", "group"), 2),
    Rule("hate", 3.0, ("group", "excluded"), 3),
    Rule("hate", 2.5, ("group", "power"), 6),
    Rule("hate", 3.0, ("violence", "group"), 3),
    Rule("hate", 4.0, ("request", "prejudiced", "group"), 8),
    Rule("hate", 5.0, ("denied", "denial"), 8),
    Rule("harassment", 2.0, ("you", "insult"), 4),
    Rule("harassment", 1.5, ("insult", "you"), 3),
    Rule("violent-crimes", 3.5, ("intent", "violence", "person"), 3),
    Rule("violent-crimes", 3.5, ("person", "intent", "doom"), 4),
    Rule("violent-crimes", 2.5, ("violence", "target"), 2),
    Rule("violent-crimes", 2.5, ("intent", "violence", "target"), 3),
    Rule("violent-crimes", 3.0, ("damage", "body"), 4),
    Rule("violent-crimes", 2.5, ("act", "victim"), 2),
    Rule("violent-crimes", 2.0, ("body", "damage"), 4),
    Rule("violent-crimes", 4.0, ("request", "gruesome"), 8),
    Rule("self-harm", 3.5, ("first", "own-death"), 6),
    Rule("self-harm", 1.5, ("first", "own-hurt"), 5),
    Rule("self-harm", 2.0, ("first", "despair"), 5),
    Rule("self-harm", 3.5, ("means", "self-injury"), 6),
    Rule("self-harm", 2.5, ("first", "slim"), 5),
    Rule("sexual-content", 3.0, ("request", "lurid"), 4),
    Rule("child-exploitation", 4.0, ("childhood", "sexual"), 10),
    Rule("child-exploitation", 4.0, ("sexual", "childhood"), 10),
    Rule("non-violent-crimes", 5.0, ("ask", "crime"), 6),
    Rule("non-violent-crimes", 4.0, ("request", "crime"), 4),
    Rule("indiscriminate-weapons", 3.0, ("ask", "weapon"), 8),
    Rule("indiscriminate-weapons", 6.5, ("ask", "making", "weapon"), 6),
    Rule("sex-crimes", 5.0, ("ask", "assault"), 6),
    Rule("violent-crimes", 7.0, ("ask", "killing", "human"), 6),
    Rule("privacy", 5.0, ("ask", "spying"), 8),
    Rule("privacy", 5.0, ("ask", "personal", "whose"), 4),
    Rule("privacy", 5.0, ("ask", "whose", "personal"), 4),
    Rule("intellectual-property", 5.0, ("ask", "piracy"), 8),
)  # fmt: skip
# Each with the classes it needs, and what its hits are.
_MADE = [(rule, frozenset(rule.classes), Section(rule.category, rule.weight)) for rule in RULES]


def apply(hits: list[Hit]) -> list[Hit]:
    """The hits that rules make of these."""
    places: dict[str, list[int]] = {}
    for hit in hits:
        if hit.section.weight is None:
            known = places.setdefault(hit.section.name, [])
            if not known or known[-1] != hit.place:
                known.append(hit.place)
    found = []
    for rule, needed, section in _MADE:
        if needed <= places.keys():
            for start in places[rule.classes[0]]:
                place = start
                for name in rule.classes[1:]:
                    after = places[name]
                    at = bisect_right(after, place)
                    if at == len(after) or after[at] - place > rule.span:
                        break
                    place = after[at]
                else:
                    found.append(Hit(start, "+".join(rule.classes), section))
    return found
