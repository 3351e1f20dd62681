"""The default set is found in plain text, near misses are not, and what is found is found in its right place."""

import pytest

from pipeline.core.pii import DEFAULT_ENTITIES, count_entities, detect

VALUES = {
    "CREDIT_CARD": [
        "4000 0566 5566 5556", "5200-8282-8282-8210", "378282246310005", "30569309025904", "6011111111111117", "3566002020360505",
        "4000 0025 0000 3155", "4000.0566.5566.5556", "4000056655665556",
    ],
    "EMAIL_ADDRESS": [
        "alice@example.com", "b.jones+news@mail.example.co.uk", "d'arcy@example.org", "x_1@example-shop.io", "jürgen@bücher.example",
    ],
    "IBAN_CODE": [
        "GB29 NWBK 6016 1331 9268 19", "NL91ABNA0417164300", "ch93 0076 2011 6238 5295 7", "MT84MALT011000012345MTLCAST001S",
    ],
    "US_SSN": ["512-44-8321", "512 44 8321", "512.44.8321"],
    "PHONE_NUMBER": [
        "+1 (617) 555-0142", "617-555-0142", "(617) 555-0142", "+33 1 42 68 53 00", "+972 3-123-4567", "01 42 68 53 00",
        "+886 2 2345 6789", "0044 20 7946 0018", "+49 (0)30 901820", "617.555.0142 ext. 12",
    ],
    "IP_ADDRESS": ["198.51.100.23", "2001:db8:0:1::42", "fe80::1ff:fe23:4567:890a", "::1", "2001:0db8:85a3:0000:0000:8a2e:0370:7334"],
}  # fmt: skip

LABELLED = {
    "US_BANK_NUMBER": ["My bank account number is 00123456789.", "acct #: 9876543210", "A/C No: 9876543210",
        "checking account 0001-2345-678"],
    "PHONE_NUMBER": [
        "phone: +7 286 012 9040", "contact number: 222 123 1420",
        "My number is 222 123 4567, ask me anything", "T: 07400 12 50 73", "T: (11) 96122-7125",
        "Fahrer 05366/972510, Herr Maier", "1) 617-555-0142",
        "call me at 5550142", "Mobile: 71 555 012", "Tel. 5550 0199", "reach her on 555 0142", "我的电话是 13912345678",
        "55 01 42 is old, 555 0143 is my office number",
    ],
    "US_SSN": ["1. 512-44-8321\n2. none", "SSN 512448321", "her social security number: 512448321"],
    "CREDIT_CARD": ["my card 501800000009 is lost"],
}  # fmt: skip

NEAR_MISSES = [
    "6e-03-43-14-42-78", "items[::2]", "x[1::3]", "pi is 0.0416142149",
    "+7 286 012 9040 in a text that calls it nothing", "1) 2) 3)", "[388, 59, 356, 330, 378]",
    "is (21) and 26 other letters here ok", "tournament 03262 2437 Main St",
    "order 4000 0566 5566 5557", "card 4000056655665557", "512-00-8321", "000-44-8321", "666-44-8321", "912-44-8321", "512-44-0000",
    "part 512 44 8321",
    "GB29 NWBK 6016 1331 9268 18", "XX29NWBK60161331926819", "256.51.100.23", "1.2.3", "version 10.4.2.1", "12:30:45", "std::vector",
    "00:1A:2B:3C:4D:5E", "alice@example", "@alice", "meet @ noon", "2025-03-14 09:26:53", "14/03/2025 09:26", "ISBN 978-0-306-40615-7",
    "order number 00123456789", "invoice 5550142", "tracking 9400110200881234567890", "a population of 12345678", "EUR 1 234 567,00",
    "+999 12 345 678", "pi is 3.14159265358979", "call me maybe", 
    "the year 2024, the years 2025 and 2026", "192.0.2.1.7", "1, 2, 3, 4, 5, 6, 7, 8, 9",
]  # fmt: skip


@pytest.mark.parametrize(("entity", "value"), [(entity, value) for entity, values in VALUES.items() for value in values])
@pytest.mark.parametrize("sentence", ["{}", "It is {}, I think.", "Bitte notieren:\n{}\nDanke!", "<{}>", '{{"x": "{}"}}'])
def test_a_value_is_found_where_it_stands(entity, value, sentence):
    text = sentence.format(value)
    spans = [s for s in detect([text]) if s.entity == entity]
    assert [text[s.start : s.end] for s in spans] == [value]


@pytest.mark.parametrize(("entity", "text"), [(entity, text) for entity, texts in LABELLED.items() for text in texts])
def test_a_number_without_a_form_of_its_own_is_found_by_what_the_text_calls_it(entity, text):
    assert entity in count_entities(detect([text]))


@pytest.mark.parametrize("text", NEAR_MISSES)
def test_what_only_looks_like_personal_data_is_left_alone(text):
    assert detect([text]) == []


def test_the_nearest_label_decides():
    assert count_entities(detect(["Your order 12345678 is ready, call 555-0142 about it"])) == {"PHONE_NUMBER": 1}
    assert count_entities(detect(["The account manager's phone is 5550142"])) == {"PHONE_NUMBER": 1}


def test_an_endpoint_may_narrow_the_set_and_raise_the_threshold():
    text = ["alice@example.com, 617-555-0142"]
    assert count_entities(detect(text, frozenset({"EMAIL_ADDRESS"}))) == {"EMAIL_ADDRESS": 1}
    assert count_entities(detect(text, threshold=0.9)) == {"EMAIL_ADDRESS": 1}
    assert detect(text, frozenset({"PERSON"})) == []
    assert set(DEFAULT_ENTITIES) >= set(count_entities(detect(text)))


def test_values_beside_each_other_are_all_found():
    text = "alice@example.com;bob@example.com 4000 0566 5566 5556 5200-8282-8282-8210 198.51.100.23/24"
    assert count_entities(detect(["617-555-0142 617-555-0143 01 42 68 53 00 4000 0566 5566 5556"])) == {"CREDIT_CARD": 1, "PHONE_NUMBER": 3}
    assert count_entities(detect([text])) == {"CREDIT_CARD": 2, "EMAIL_ADDRESS": 2, "IP_ADDRESS": 1}


def test_an_address_at_the_end_of_a_sentence_ends_before_the_next():
    text = "Write to alice@example.com.Thanks"
    (span,) = detect([text])
    assert text[span.start : span.end] == "alice@example.com"
