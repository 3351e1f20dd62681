"""Ages, forms of address and occupations, peoples, dates in digits, places behind words that announce them: found by their form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from presidio_analyzer import EntityRecognizer, RecognizerResult

from pipeline.ner import words

AGE: Final = "AGE"
TITLE: Final = "TITLE"
NRP: Final = "NRP"
DATE_TIME: Final = "DATE_TIME"
LOCATION: Final = "LOCATION"
URL: Final = "URL"

_AGE = re.compile(
    r"""\b(?P<a>\d{1,3})(?:[ ]|-)?(?:years?|yrs?)(?:[ ]|-)(?:old|of[ ]age)\b|\b(?P<b>\d{1,3})[ -]?(?:y/o|yo|y\.o\.)(?!\w)
      |\b(?:aged?|age[ ]of|age:|age[ ]is|turn|turns|turned|turning|ages)[ ]{1,2}(?P<c>\d{1,3})\b(?![-/:%]|\.\d|[ ]?(?:percent|degrees))
      |\b(?:i[ ]am|i'm|he[ ]is|he's|she[ ]is|she's)[ ](?P<d>[1-9]\d)(?=[.,;!?)]|[ ]and[ ]|[ ]now|\Z)""",
    re.VERBOSE | re.IGNORECASE,
)
_ADDRESSED = re.compile(
    r"\b(?:" + "|".join(sorted(words.TITLES - {"master", "miss", "judge"}, key=len, reverse=True)) + r")\b\.?(?=[ ][^\W\d_])", re.IGNORECASE
)
_DATE = re.compile(
    r"""(?<![\w./\-])(?:(?:19|20)\d\d[-/.](?:0?[1-9]|1[0-2])[-/.](?:0?[1-9]|[12]\d|3[01])(?:[T ]\d{1,2}:\d{2}(?::\d{2})?)?
        |(?:0?[1-9]|[12]\d|3[01])([-/.])(?:0?[1-9]|[12]\d|3[01])\1(?:19|20)\d\d
        |(?:0?[1-9]|1[0-2])/(?:0?[1-9]|[12]\d|3[01])/\d\d)(?![\w/\-]|\.\d)
      |\b(?:in|since|during|until|from|by|year|before|after|around)[ ]((?:19|20)\d\d)\b(?![-/.]\d)""",
    re.VERBOSE | re.IGNORECASE,
)
_LETTERS = re.compile(r"[^\W\d_]+")
# What stands before a people written small; before a language; behind what is a state's or union's name.
_PEOPLE_BEFORE = words.word_set("the proud are were a an all many some most fellow am is two three")
_LANGUAGE_BEFORE = words.word_set(
    "in into speak speaks spoke speaking spoken study studies studying studied learn learning learned teach teaches"
)
_STATE_BEHIND = re.compile(r"[ ](?:Republic|Union|Kingdom|Emirates|Federation|Islands?|Sea|Ocean|City|Airlines?|Airways|Bank)\b")
_PLACE = re.compile(
    r"""\b(?:live[sd]?|living|born|grew[ ]up|based|located|staying|stay|reside[sd]?|work|works|working|raised|arrived|landed|i'm
      |i[ ]am|office|offices
        |conference|trip|visit|holiday|vacation)[ ]in[ ]|\b(?:travel(?:l?ing|led|s)?|moved?|moving|flying|fly|flew|trip|flight|drive
          |relocat(?:e|ed|ing))[ ]to[ ]
      |\b(?:i'm|i[ ]am|comes?|came|here|moved?|moving|hails?|flight|train)[ ]from[ ]|\bhome[ ](?:city|town)[ ]|\b(?:city|town
          |village|state|province
        |country)[ ]of[ ]
      |\bcity:[ ]?|\bcountry:[ ]?|\btown:[ ]?""",
    re.VERBOSE | re.IGNORECASE,
)
_NAME = re.compile(
    r"[^\W\d_][\w'’\-]*(?:[ ](?:(?:de|la|le|du|des|del|do|da|am|an|der|den|upon|of|el|los|las|sur|on)[ ]){0,2}[^\W\d_][\w'’\-]*){0,4}"
)
# How the last word of an occupation ends.
_OCCUPATION = re.compile(
    r"""(?:(?:[a-z]{3,}(?:ologist|icist|apist|acist|graphist|nomist|alyst|entist|urgeon|ctor|utor|ator|itor|ineer|ucer|acher|iner|iver|orker|lerk)
        |manager|director|officer|president|chief|assistant|attendant|technician|nurse|engineer|developer|designer|consultant|analyst|accountant
        |specialist|supervisor|coordinator|administrator|representative|secretary|clerk|agent|advisor|adviser|teacher|professor|lecturer
        |instructor|tutor|driver|pilot|mechanic|electrician|plumber|carpenter|welder|painter|roofer|installer|repairer|operator|inspector
        |cleaner|janitor|guard|soldier|sailor|firefighter|detective|librarian|archivist|curator|musician|actor|actress|dancer|artist|writer
        |author|editor|journalist|reporter|photographer|lawyer|attorney|paralegal|judge|physician|doctor|dentist|pharmacist|surgeon|therapist
        |veterinarian|midwife|paramedic|chef|cook|baker|butcher|waiter|waitress|bartender|barista|cashier|salesperson|salesman|saleswoman
        |seller|buyer|broker|banker|teller|auditor|bookkeeper|actuary|economist|statistician|mathematician|scientist|physicist|chemist
        |biologist|geologist|astronomer|farmer|gardener|fisherman|miner|logger|laborer|labourer|worker|helper|loader|packer|sorter|weaver
        |tailor|jeweler|jeweller|barber|hairdresser|hairstylist|stylist|cosmetologist|architect|surveyor|cartographer|planner|trainer
        |coach|referee|athlete|dispatcher|controller|conductor|steward|stewardess|ceo|cto|cfo|coo|founder|partner|distributor|maker|setter
        |assembler|machinist|programmer|tester|interpreter|translator|counselor|counsellor|psychologist|psychiatrist|priest|pastor|rabbi
        |imam|nanny|babysitter|caregiver|housekeeper|maid|butler|concierge|usher|model|host|hostess|producer|animator|sculptor|composer))s?""",
    re.VERBOSE,
)
_WORKS_AS = re.compile(
    r"""\b(?:works?|worked|working|employed|job|position|role|career)[ ](?:is[ ])?(?:as|of)?[ ]?(?:an?|the)[ ]
      |\b(?:job[ ]title|title|position|occupation|profession):[ ]?""",
    re.VERBOSE | re.IGNORECASE,
)
_WORDS_OF_TITLE = re.compile(r"[^\W\d_][\w'’\-]*(?:(?:,[ ]|[ ]|[ ]?/[ ]?)[^\W\d_][\w'’\-]*){0,6}")
_LINE = re.compile(r"[^\r\n]+")
# An address of the web: with its scheme or "www.", or a name under a domain that hardly ends anything else.
_URL = re.compile(
    r"""\b(?:https?|ftp)://[^\s<>"'`\[\]{}|\\]{3,2000}|\bwww\.[\w\-]+\.[^\s<>"'`\[\]{}|\\]{2,2000}
      |(?<![\w@.\-/])(?:[a-z0-9][a-z0-9\-]{0,62}\.){1,4}(?:com|org|net|edu|gov|mil|info|biz|io|dev|app|ai|co|eu|uk|de|fr|nl|it|es|pl|se|no
        |dk|fi|ch|at|be|cz|hu|gr|pt|ie|ru|ua|tr|br|ar|mx|ca|us|au|nz|jp|cn|kr|tw|hk|sg|za|example)(?![\w@]|\.\w|\()(?:/[^\s<>"'`\[\]{}|\\]{0,2000})?""",
    re.VERBOSE,
)


class PatternsRecognizer(EntityRecognizer):  # type: ignore[misc]
    """Presidio's interface to the functions below."""

    def __init__(self) -> None:
        super().__init__(supported_entities=[AGE, TITLE, NRP, DATE_TIME, LOCATION, URL], name="PatternsRecognizer", supported_language="en")

    def load(self) -> None:
        """Nothing to load."""

    def analyze(self, text: str, entities: list[str], nlp_artifacts: Any = None) -> list[RecognizerResult]:
        found = [*_ages(text), *_titles(text), *_peoples(text), *_dates(text), *_places(text), *_urls(text)]
        return [RecognizerResult(entity, start, end, score) for start, end, entity, score in found if entity in entities]


def _ages(text: str) -> Iterator[tuple[int, int, str, float]]:
    for match in _AGE.finditer(text):
        start, end = match.span(match.lastgroup or 0)
        if 0 < int(text[start:end]) <= 120:
            yield start, end, AGE, 0.5 if match.lastgroup == "d" else 0.9


def _titles(text: str) -> Iterator[tuple[int, int, str, float]]:
    for match in _ADDRESSED.finditer(text):
        if match.group()[0].isupper() and text[match.end() + 1].isupper():
            yield match.start(), match.end(), TITLE, 0.9
    for match in _WORKS_AS.finditer(text):
        title = _WORDS_OF_TITLE.match(text, match.end())
        if title is not None:
            end = _occupation(title.group())
            if end:
                yield title.start(), title.start() + end, TITLE, 0.7
    previous = ""
    for line in _LINE.finditer(text):
        written = line.group().strip(" \t>")
        # The line below a name that is an occupation and nothing else.
        if previous and _WORDS_OF_TITLE.fullmatch(written) and _occupation(written) == len(written) and _is_name_line(previous):
            start = text.index(written, line.start())
            yield start, start + len(written), TITLE, 0.8
        previous = written or previous


def _occupation(written: str) -> int:
    """Where in `written` the first word that ends an occupation ends; 0 where there is none."""
    end = 0
    for word in _LETTERS.finditer(written.lower()):
        if _OCCUPATION.fullmatch(word.group()):
            end = word.end()
    return end


def _is_name_line(line: str) -> bool:
    names = line.split()
    return 1 <= len(names) <= 5 and all(name[0].isalpha() for name in names) and names[0][0].isupper()


def _peoples(text: str) -> Iterator[tuple[int, int, str, float]]:
    before = ""
    for match in _LETTERS.finditer(text):
        word = match.group().lower()
        singular = (
            word
            if word in words.PEOPLES
            else word.removesuffix("s")
            if word.removesuffix("s") in words.PEOPLES
            else word.removesuffix("es")
        )
        if singular in words.PEOPLES:
            capital = match.group()[0].isupper()
            if before in _LANGUAGE_BEFORE or _STATE_BEHIND.match(text, match.end()):
                continue
            if (capital or before in _PEOPLE_BEFORE) and (singular not in words.PEOPLES_ALSO_WORDS or (capital and before)):
                yield match.start(), match.end(), NRP, 0.86
        before = word


def _dates(text: str) -> Iterator[tuple[int, int, str, float]]:
    for match in _DATE.finditer(text):
        start, end = match.span(2) if match.group(2) else match.span()
        yield start, end, DATE_TIME, 0.86


def _places(text: str) -> Iterator[tuple[int, int, str, float]]:
    for match in _PLACE.finditer(text):
        name = _NAME.match(text, match.end())
        if name is None:
            continue
        end = name.start()
        for word in _WORD_OF_NAME.finditer(text, name.start(), name.end()):
            if word.group()[0].islower() and word.group() not in words.PARTICLES or word.group().lower() in words.FUNCTION_WORDS:
                break
            if not word.group()[0].islower():
                end = word.end()
        written = text[name.start() : end].lower()
        if end > name.start() and written not in words.MONTHS and written not in words.WEEKDAYS:
            yield name.start(), end, LOCATION, 0.83


_WORD_OF_NAME = re.compile(r"[^\W\d_][\w'’\-]*")


def _urls(text: str) -> Iterator[tuple[int, int, str, float]]:
    if "." not in text:
        return
    for match in _URL.finditer(text):
        end = match.start() + len(match.group().rstrip(".,;:!?)'\"*"))
        yield match.start(), end, URL, 0.9
