"""No text takes this package's own searches much longer than another of its size: milliseconds per KB, the model's time apart."""

import random
from functools import partial

import pytest

from pipeline.ner.addresses import addresses
from pipeline.ner.engine import engine
from pipeline.ner.finding import PART
from pipeline.ner.patterns import PatternsRecognizer
from pipeline.ner.persons import PersonRecognizer
from pipeline.ner.settling import Result, repeated, settled
from tests.cpu_time import fastest_ms

# Five times and more what the slowest takes on an idle machine; an ordinary text takes less than one.
BOUND_MS_PER_KB = 40.0
_random = random.Random(11)
HOSTILE = {
    "digits": "1", "numbers": "12 ", "capitals": "Aa ", "particles": "de ", "numbers and particles": "1 de ", "house numbers": "12 Aa ",
    "streets": "Street ", "streets before": "rue ", "streets with names": "rue Aa ", "units": "Unit 5 ", "unit starts": "Apt. ",
    "corners": "corner of Aa and ", "addresses": "address is 12 ", "announced": "lives at ", "commas": "12 Aa, ", "lines": "Aa\n",
    "empty lines": "\n", "lines after an address": "1 Aa St\n\n\n\n", "quoted": ">Aa\n>", "post boxes": "P.O. Box ", "postal": "SW1A 2AA ",
    "states": "NY 12345 ", "letters": "a", "capital letters": "A", "names": "my name is ", "dear": "Dear ", "doctors": "Dr. ",
    "genitives": "Aa's ",
    "said": "Aa said ", "speakers": "Aa: \"", "titles": "Aa\nengineer\n",
    "commas of titles": "Aa Bb\na, a, a, a, a, a engineer\n",
    "works": "works as a ", "ages": "age 12 ", "years old": "12 years ", "peoples": "the german ", "dates": "2024-01-01 ",
    "in": "in 2024 ",
    "places": "lives in Aa ", "places of particles": "lives in Aa de la ", "web": "a.", "web names": "a.com", "schemes": "http://",
    "hosts": "www.a", "dots": ".", "spaces": " ", "tabs": "\t", "signs": "-", "apostrophes": "a'", "surnames": "Aa-", "non-ASCII": "Éé ",
}  # fmt: skip
ALL = {name: (unit * PART)[:PART] for name, unit in HOSTILE.items()} | {
    "random words": " ".join(
        _random.choice(["Aa", "de", "12", "St", "Apt.", "lives at", "my name is", "\n", ",", "Mr."]) for _ in range(PART // 4)
    )[:PART],
    "dashes that end in letters": "1-" * (PART // 2 - 1) + "ab",
    "digits that end in letters": "1" * (PART - 2) + "ab",
    "random signs": "".join(_random.choice("aA1 .,'\n-:/@") for _ in range(PART)),
}  # fmt: skip
ENTITIES = ["PERSON", "LOCATION", "AGE", "TITLE", "NRP", "DATE_TIME", "URL"]


@pytest.fixture(scope="module")
def searches():
    dictionary = engine().dictionary
    persons, patterns = PersonRecognizer(dictionary), PatternsRecognizer()
    return {
        "addresses": addresses,
        "persons": lambda text: persons.analyze(text, ENTITIES),
        "patterns": lambda text: patterns.analyze(text, ENTITIES),
        "capitalised": dictionary.capitalised,
        "settled": lambda text: settled(text, [Result(at, at + 5, "PERSON", at % 7 / 7) for at in range(0, len(text) - 5, 2)]),
        "repeated": lambda text: repeated(text, [Result(at, at + 9, "PERSON", 0.5) for at in range(0, len(text) - 9, 20)]),
    }


@pytest.mark.parametrize("name", ALL)
def test_no_text_takes_longer_than_its_size_allows(searches, name):
    for search, function in searches.items():
        (best_ms,) = fastest_ms(partial(function, ALL[name]), runs=3)
        assert best_ms <= BOUND_MS_PER_KB * PART / 1024, search
