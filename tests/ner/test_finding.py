"""Names, places, ages and the like in texts as people write them, and what must not be taken for them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.pii import resolved
from pipeline.core.pii_entities import NER_ENTITIES
from pipeline.ner import find
from pipeline.ner.addresses import addresses
from pipeline.ner.finding import OVERLAP, PART
from pipeline.ner.settling import Result, repeated, settled

FOUND = [
    ("PERSON", "Yesterday I spoke to Annelies Verhoeven about it.", "Annelies Verhoeven"),
    ("PERSON", "my name is tomasz wieczorek and i need help", "tomasz wieczorek"),
    ("PERSON", "Dear Mrs. O'Hara, thank you for waiting.", "O'Hara"),
    ("PERSON", "Oona Heikkinen <oona@example.com> wrote:", "Oona Heikkinen"),
    ("PERSON", "Regards,\nJorunn Bakke", "Jorunn Bakke"),
    ("PERSON", "That is Zsófia's daughter, I think.", "Zsófia"),
    ("PERSON", "Name: Ｔａｒｏ Ｙａｍａｄａ", "Ｔａｒｏ Ｙａｍａｄａ"),
    ("PERSON", "Jorunn Bakke came late. We asked why, and Bakke only laughed.", "Bakke only"[:5]),
    ("LOCATION", "I live at 17 Harcourt Terrace, Ludlow, UK and would like a quote.", "17 Harcourt Terrace, Ludlow, UK"),
    ("LOCATION", "Send it to ul. Polna 3/12, 00-625 Warszawa, please", "ul. Polna 3/12, 00-625 Warszawa"),
    ("LOCATION", "Lindenweg 4\n10115 Berlin\nGermany\nis where we are", "Lindenweg 4\n10115 Berlin\nGermany"),
    ("LOCATION", "the shop at 82, avenue de Brissac is closed", "82, avenue de Brissac"),
    ("LOCATION", "Our postal address: P.O. Box 1234, Nelson 7040", "P.O. Box 1234"),
    ("LOCATION", "Write to PSC 1204, Box 77, APO AE 09706 instead.", "PSC 1204, Box 77, APO AE 09706"),
    ("LOCATION", "She was born in Trzebiatów and moved away.", "Trzebiatów"),
    ("LOCATION", "deliver it to SW1A 2AA before noon", "SW1A 2AA"),
    ("AGE", "The patient is a 43-year-old woman.", "43"),
    ("AGE", "I just turned 52!", "52"),
    ("AGE", "Age: 29", "29"),
    ("TITLE", "Prof. Lindqvist will see you now.", "Prof."),
    ("TITLE", "She works as a dental hygienist assistant in town.", "dental hygienist assistant"),
    ("NRP", "Most Norwegians ski, but this Bolivian skates.", "Norwegians"),
    ("DATE_TIME", "He was born on 4/17/1982.", "4/17/1982"),
    ("DATE_TIME", "It happened on 3 June 2019 at noon.", "3 June 2019"),
    ("ORGANIZATION", "I work for Verdoni Systems Ltd. as a clerk", "Verdoni Systems Ltd"),
    ("ORGANIZATION", "Brightleaf is a logistics company from the north.", "Brightleaf"),
    ("URL", "Look at https://www.example.org/a?b=c, please.", "https://www.example.org/a?b=c"),
    ("URL", "or visit shop.example.com/new today", "shop.example.com/new"),
    ("US_PASSPORT", "My US passport number is 912803456.", "912803456"),
    ("US_ITIN", "my ITIN is 912-70-1234", "912-70-1234"),
    ("CRYPTO", "send it to my wallet 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
    ("UK_NHS", "NHS number 401 023 2137", "401 023 2137"),
    ("MEDICAL_LICENSE", "The DEA certificate BB1388568 expired.", "BB1388568"),
]  # fmt: skip
HARMLESS = [
    "The meeting takes 45 minutes and costs nothing.", "Please summarise the following text in three sentences.",
    "What is the capital of a loan?",
    "Use a for loop over the 12 items, then sort them.", "It takes 3 to 5 working days.", "The answer is 42.",
    "We sold 1200 units this quarter.",
    "Version 2.4.1 fixes the bug in the parser.", "Chapter 12 is the longest.", "Turn 90 degrees to the left.", "I think so, too.",
]  # fmt: skip


@pytest.mark.parametrize(("entity", "text", "value"), FOUND)
def test_it_is_found_where_it_stands(entity, text, value):
    start = text.rindex(value)
    spans = [span for span in find([text], None, 0.4) if span.entity == entity]
    assert any(span.start <= start and span.end >= start + len(value) for span in spans), find([text], None, 0.4)
    assert entity in NER_ENTITIES


@pytest.mark.parametrize("text", HARMLESS)
def test_ordinary_sentences_hold_nothing(text):
    assert find([text], None, 0.4) == []


def test_only_what_is_asked_for_and_sure_enough_is_told():
    text = "Annelies Verhoeven was born in Trzebiatów in 1982."
    assert {span.entity for span in find([text], frozenset({"LOCATION", "EMAIL_ADDRESS"}), 0.4)} == {"LOCATION"}
    assert find([text], frozenset({"EMAIL_ADDRESS"}), 0.0) == []
    assert all(span.score >= 0.83 for span in find([text], None, 0.83))


def test_what_is_encoded_or_hidden_is_read():
    text = "note: %4D%79%20%6E%61%6D%65%20%69%73%20%41%6C%69%63%65%20%4A%6F%68%6E%73%6F%6E"
    assert "PERSON" in {span.entity for span in find([text], None, 0.4)}
    assert "PERSON" in {span.entity for span in find(["I met A\u200bl\u200bi\u200bc\u200be Johnson today"], None, 0.4)}


def test_a_long_text_is_read_in_parts_and_no_name_is_lost_at_their_joints():
    filler = "nothing is said here and it goes on. "
    for place in range(PART - OVERLAP - 30, PART + 30, 29):
        text = (filler * (PART // len(filler) + 2))[:place].rpartition(" ")[0] + " I met Alice Johnson today. " + filler * 20
        start = text.index("Alice Johnson")
        assert any(span.start <= start and span.end >= start + 13 for span in find([text], frozenset({"PERSON"}), 0.4)), place


@pytest.mark.parametrize(
    "text",
    ["I have 3 Big Macs", "Chapter 12 Main Results 5", "in 2024 we had 12 guests", "the 3 Musketeers", "12 March 2024", "Room for 5"],
)
def test_numbers_beside_capitals_are_not_always_addresses(text):
    assert all(score < 0.6 for _, _, score in addresses(text))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9), st.sampled_from("ABC"), st.sampled_from([0.1, 0.5, 0.9])), max_size=12))
def test_settled_findings_share_no_character_and_the_surest_stays(raw):
    results = [Result(start, start + size, entity, score) for start, size, entity, score in raw]
    kept = settled("x" * 40, results)
    assert all(a.end <= b.start for a, b in zip(kept, kept[1:], strict=False))
    assert set(kept) <= set(results)
    if results:
        assert max(r.score for r in results) == max(r.score for r in kept)


def test_repeated_names_are_those_of_persons_found_and_not_taken():
    text = "Alice Johnson left. Johnson, Alice Johnson and Johnsonville."
    assert repeated(text, [Result(0, 13, "PERSON", 0.8)]) == [Result(20, 27, "PERSON", 0.6), Result(29, 42, "PERSON", 0.6)]
    assert repeated(text, [Result(0, 13, "LOCATION", 0.8)]) == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["Alice Johnson", "12 Crown Street", "\u200b", "ﬃ", "é", "\n", " in ", "Mr. ", "%41", "Ａ", "1", ", "]), max_size=10
    )
)
def test_positions_are_those_of_the_text_as_it_came(parts):
    text = "".join(parts)
    spans = find([text], None, 0.0)
    assert spans == resolved(spans)
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
