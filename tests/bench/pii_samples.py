"""Made-up texts with personal data and with what only looks like it, always the same for the same seed.

    for sample in valid("US_SSN", 500): ...        sample.text[sample.start:sample.end] is one
    for text in near_misses("US_SSN", 500): ...    holds none of the default set

Values follow the published plans, by libphonenumber for telephones, and never the detector's own expressions. Near misses break a plan
in one place, or are something else that people write in digits: order numbers, versions, dates, ISBNs, coordinates.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

import phonenumbers

SEED = 20250131
ENTITIES = ("US_SSN", "US_BANK_NUMBER", "IP_ADDRESS", "PHONE_NUMBER")
COUNTRIES = (
    "US", "CA", "GB", "IE", "FR", "DE", "AT", "CH", "IT", "ES", "PT", "NL", "BE", "SE", "PL", "IN", "JP", "AU", "BR", "MX", "ZA", "KR",
)  # fmt: skip


class Sample(NamedTuple):
    """A text, and where in it the value stands."""

    text: str
    start: int
    end: int


# {} is the value. The first list is for values that say themselves what they are, the second names them.
PLAIN = [
    "{}", "It is {}.", "{} is what I was given", "Here you go: {}", "I have {} in my notes, is that still right?", "\"{}\"", "({})",
    "- {}\n- none",
    "Please update our records to {} as of today.", "we got {} from them last week", "{}, as agreed.", "<td>{}</td>", '{{"value": "{}"}}',
    "Name: Alice\nValue: {}\nNotes: none", "Hello,\n\nsee {} for this.\n\nThanks", "the customer typed {} into the form", "Is {} correct?",
    "field1;{};field3", "Old one {}; the new one follows.", "Somebody wrote {} on the whiteboard!", "* {} *", "> {}\nThat is the one.",
    "What happens if I send {} to your team?", "I copied it down as {} but may be off", "value={}", "“{}”", "1) {}\n2) to be done",
]  # fmt: skip
LABELLED = {
    "US_SSN": [
        "SSN: {}", "My social security number is {}.", "social security no. {}", "her SSN is {}", "ssn {}", "Social Security #: {}",
        "For the W-2 you need my SSN ({}).", "applicant_ssn={}", "SSN/TIN {}", "The SSN on file, {}, is wrong.", "His social: {}",
    ],
    "US_BANK_NUMBER": [
        "My bank account number is {}.", "account number {}", "Account no. {}", "acct #{}", "Acct: {}", "please wire it to account {}",
        "checking account {} at First Bank", "My savings account is {}, routing follows.", "bank account: {}", "a/c {}", "A/C No: {}",
        "Deposit it into {}, that is my account", "direct deposit account number: {}", "The account ending is long: account {}",
        "Bank account # {}", "withdraw from my account number {} today", "account_number: {}", '{{"account_number": "{}"}}',
        "I'd like to close my account, the number is {}", "The money went to account {} instead",
    ],
    "PHONE_NUMBER": [
        "Call me at {}.", "phone: {}", "Tel. {}", "my number is {}, call any time", "Mobile: {}", "You can reach me on {} after six",
        "cell {}", "text me: {}", "Phone number {}", "Fax: {}", "office phone {}", "WhatsApp {}", "Please phone {} to confirm",
        "contact number: {}", "Telephone: {}\nE-mail: none", "Home phone {}, please", "ring me on {}", "Hotline {}", "T: {}", "Ph: {}",
        "give us a call on {}", "My phone's {}", "call {} for support", "dial {}",
    ],
    "IP_ADDRESS": [
        "The server is at {}.", "ping {}", "from {} port 22", "IP: {}", "host {} unreachable", "client={} status=200", "ssh root@host {}",
        "Address {} is blocked", "resolve it to {}, please", "remote_addr: {}", "listen on [{}]:8080", "allow {}/64;", "http://[{}]/index",
        "bind to {}", "traceroute to {}, 30 hops max", "AAAA {}", "denied: {} (too many requests)",
    ],
}  # fmt: skip


def valid(entity: str, count: int, seed: int = SEED) -> list[Sample]:
    """`count` texts with one value of `entity` each."""
    dice = random.Random(f"{seed}{entity}")
    make = {"US_SSN": _ssn, "US_BANK_NUMBER": _bank, "IP_ADDRESS": _ipv6, "PHONE_NUMBER": _phone}[entity]
    samples = []
    for number in range(count):
        value, tells_itself = make(dice, number)
        template = dice.choice(LABELLED[entity] + PLAIN if tells_itself else LABELLED[entity])
        before, _, after = template.replace("{{", "\x01").replace("}}", "\x02").partition("{}")
        before, after = (part.replace("\x01", "{").replace("\x02", "}") for part in (before, after))
        samples.append(Sample(before + value + after, len(before), len(before) + len(value)))
    return samples


def _ssn(dice: random.Random, number: int) -> tuple[str, bool]:
    area = dice.choice([n for n in range(1, 900) if n != 666])
    parts = f"{area:03}", f"{dice.randint(1, 99):02}", f"{dice.randint(1, 9999):04}"
    separator = dice.choice(["-", "-", "-", " ", "", "."])
    return separator.join(parts), separator == "-"


def _bank(dice: random.Random, number: int) -> tuple[str, bool]:
    digits = "".join(dice.choice("0123456789") for _ in range(dice.randint(8, 17)))
    if dice.random() < 0.2:
        cut = dice.randint(3, len(digits) - 3)
        return digits[:cut] + dice.choice(" -") + digits[cut:], False
    return digits, False


def _ipv6(dice: random.Random, number: int) -> tuple[str, bool]:
    groups = [f"{dice.getrandbits(16):x}" for _ in range(8)]
    kind = number % 5
    if kind == 0:
        return ":".join(groups), True
    if kind == 1:
        return ":".join(group.zfill(4) for group in groups).upper(), True
    if kind == 2:
        return "2001:db8::" + ":".join(groups[: dice.randint(1, 5)]), True
    if kind == 3:
        return "fe80::" + ":".join(groups[:4]), True
    return "::ffff:" + ".".join(str(dice.randint(0, 255)) for _ in range(4)), True


def _phone(dice: random.Random, number: int) -> tuple[str, bool]:
    region = COUNTRIES[number % len(COUNTRIES)]
    parsed = _number_of(dice, region)
    style = dice.randrange(6)
    forms = phonenumbers.PhoneNumberFormat
    if style in (0, 1):
        return phonenumbers.format_number(parsed, forms.INTERNATIONAL), True
    if style == 2:
        return phonenumbers.format_number(parsed, forms.E164), True
    if style == 3:
        return phonenumbers.format_number(parsed, forms.INTERNATIONAL).replace(" ", dice.choice([".", "-"])), True
    written = phonenumbers.format_number(parsed, forms.NATIONAL)
    return (written, False) if style == 4 else (written.replace(" ", dice.choice(["-", ".", ""])), False)


def _number_of(dice: random.Random, region: str) -> phonenumbers.PhoneNumber:
    """A number that is valid in the plan of `region`: its published example with other last digits."""
    kind = dice.choice([phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE])
    example = phonenumbers.example_number_for_type(region, kind)
    assert example is not None
    while True:
        digits = str(example.national_number)
        free = dice.randint(4, 6)
        digits = digits[:-free] + "".join(dice.choice("0123456789") for _ in range(free))
        made = phonenumbers.PhoneNumber(example.country_code, int(digits), italian_leading_zero=example.italian_leading_zero)
        if phonenumbers.is_valid_number(made):
            return made


def near_misses(entity: str, count: int, seed: int = SEED) -> list[str]:
    """`count` texts without anything of the default set, each with what could be taken for `entity`."""
    dice = random.Random(f"{seed}{entity}not")
    kinds = _NEAR_MISSES[entity]
    texts = []
    for number in range(count):
        value, own = kinds[number % len(kinds)](dice)
        texts.append(dice.choice(own if own else PLAIN).replace("{{", "{").replace("}}", "}").replace("{}", value, 1))
    return texts


def _digits(dice: random.Random, count: int) -> str:
    return dice.choice("123456789") + "".join(dice.choice("0123456789") for _ in range(count - 1))


_Made = tuple[str, list[str]]
_ORDERS = [
    "order {}", "Order number {} has shipped", "invoice {} is overdue", "ticket {}", "tracking number {}", "Your order {} is ready.",
    "case {} was closed", "reference {}", "booking reference: {}", "part number {}", "item {} is out of stock", "claim {} was refused",
    "confirmation {}", "batch {} failed", "transaction id {}", "SKU {}", "order_id={}", '{{"order_id": {}}}', "model {} is discontinued",
    "serial no. {}", "receipt {}", "shipment {} left", "version {}", "member {} since 2019", "row {} of the table",
]  # fmt: skip
_COUNTS = [
    "a population of {}", "it costs ${}", "{} EUR", "we counted {} rows", "about {} bytes", "{} requests were served",
    "the file has {} lines", "total: ${}", "distance {} km",
]  # fmt: skip


def _broken_ssn(dice: random.Random) -> _Made:
    group, serial = f"{dice.randint(1, 99):02}", f"{dice.randint(1, 9999):04}"
    area = f"{dice.randint(100, 660):03}"
    broken = dice.choice(
        [
            ("000", group, serial),
            ("666", group, serial),
            (str(dice.randint(900, 999)), group, serial),
            (area, "00", serial),
            (area, group, "0000"),
        ]
    )
    return "-".join(broken), LABELLED["US_SSN"] + PLAIN


def _other_groups(dice: random.Random) -> _Made:
    sizes = dice.choice([(2, 3, 4), (4, 2, 3), (3, 2, 3), (3, 2, 5), (2, 2, 5), (4, 5)])
    return "-".join(_digits(dice, size) for size in sizes), _ORDERS


def _order(dice: random.Random) -> _Made:
    while True:
        digits = _digits(dice, dice.randint(5, 17))
        # One in ten has a card's check digit by chance, and might as well be a card.
        if sum(sum(divmod(int(d) * (1, 2)[place % 2], 10)) for place, d in enumerate(reversed(digits))) % 10:
            return digits, _ORDERS


def _amount(dice: random.Random) -> _Made:
    number = dice.randint(10_000, 10**9)
    return dice.choice([f"{number}", f"{number:,}", f"{number:,}".replace(",", " "), f"{number / 100:.2f}"]), _COUNTS


def _date(dice: random.Random) -> _Made:
    year, month, day = dice.randint(1950, 2035), dice.randint(1, 12), dice.randint(1, 28)
    hour, minute, second = dice.randint(0, 23), dice.randint(0, 59), dice.randint(0, 59)
    forms = [
        f"{year}-{month:02}-{day:02}", f"{day:02}.{month:02}.{year}", f"{month}/{day}/{year}", f"{year}/{month:02}/{day:02}",
        f"{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}", f"{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z",
        f"{day:02}-{month:02}-{year} {hour:02}:{minute:02}", f"{hour:02}:{minute:02}:{second:02}", f"{year}-{year + 1}",
        f"{year}{month:02}{day:02}", f"{year}{month:02}{day:02}T{hour:02}{minute:02}{second:02}",
    ]  # fmt: skip
    return dice.choice(forms), PLAIN


def _isbn(dice: random.Random) -> _Made:
    body = "978" + "".join(dice.choice("0123456789") for _ in range(9))
    check = -sum(int(digit) * (1, 3)[place % 2] for place, digit in enumerate(body)) % 10
    written = f"{body[:3]}-{body[3]}-{body[4:7]}-{body[7:]}-{check}"
    return dice.choice([written, written.replace("-", ""), written.replace("-", " ")]), [
        "ISBN {}",
        "isbn: {}",
        "the book (ISBN {}) is sold out",
    ]


def _version(dice: random.Random) -> _Made:
    parts = [str(dice.randint(0, 30)) for _ in range(dice.choice([2, 3, 3]))]
    return ".".join(parts), [
        "version {}",
        "v{}",
        "upgrade to {} now",
        "it broke in {}",
        "python=={}",
        "Chrome {} is out",
        "{}-beta",
        "release {}",
    ]


def _timestamp(dice: random.Random) -> _Made:
    return str(dice.choice([dice.randint(10**9, 2 * 10**9), dice.randint(10**12, 2 * 10**12)])), [
        "timestamp {}", "ts={}", "created_at: {}", "epoch {}", '{{"timestamp": {}}}', "at time {} it stopped",
    ]  # fmt: skip


def _coordinates(dice: random.Random) -> _Made:
    return f"{dice.uniform(-90, 90):.6f}, {dice.uniform(-180, 180):.6f}", ["coordinates {}", "it is at {}", "lat/lon: {}", "({})"]


def _list(dice: random.Random) -> _Made:
    return ", ".join(str(dice.randint(1, 400)) for _ in range(dice.randint(4, 9))), [
        "{}",
        "the scores were {}",
        "values: {}",
        "[{}]",
        "x = [{}]",
    ]


def _no_country(dice: random.Random) -> _Made:
    return f"+{dice.choice(['999', '210', '384', '699', '851'])} {_digits(dice, 3)} {_digits(dice, 3)} {_digits(dice, 3)}", PLAIN


def _too_short_or_long(dice: random.Random) -> _Made:
    while True:
        code, size = dice.choice([("1", 7), ("1", 12), ("33", 6), ("33", 12), ("44", 6), ("34", 6), ("34", 12), ("48", 6), ("81", 13)])
        written = f"+{code} {_digits(dice, size)}"
        if not phonenumbers.is_possible_number(phonenumbers.parse(written)):
            return written, PLAIN


def _mac(dice: random.Random) -> _Made:
    sign = dice.choice(":-")
    return sign.join(f"{dice.getrandbits(8):02x}" for _ in range(6)), ["MAC {}", "eth0 {}", "{}", "device {} joined"]


def _broken_ipv6(dice: random.Random) -> _Made:
    groups = [f"{dice.getrandbits(16):x}" for _ in range(9)]
    broken = [
        ":".join(groups), ":".join(groups[:7]), ":".join(groups[:3]) + "::" + ":".join(groups[3:5]) + "::1",
        ":".join(groups[:7]) + ":12345", ":".join(groups[:7]) + ":g1", "::", ":".join(groups[:4]),
    ]  # fmt: skip
    return dice.choice(broken), LABELLED["IP_ADDRESS"][:10] + PLAIN


def _code(dice: random.Random) -> _Made:
    return dice.choice(
        ["std::vector", "items[::2]", "Foo::Bar", "a::b::c", "x[1::3]", "crate::io", "row[::-1]", "ratio 4:3:2", "1:2:3"]
    ), PLAIN


def _fraction(dice: random.Random) -> _Made:
    return f"{dice.uniform(0, 10):.{dice.randint(8, 14)}f}", ["pi is about {}", "loss {}", "it took {} seconds", "p = {}", "{}"]


def _product(dice: random.Random) -> _Made:
    forms = [
        f"AB-{_digits(dice, 7)}", f"X{_digits(dice, 9)}", f"{_digits(dice, 4)}-{_digits(dice, 4)}-{_digits(dice, 3)}Z",
        f"id{_digits(dice, 10)}",
    ]  # fmt: skip
    return dice.choice(forms), PLAIN


_NEAR_MISSES: dict[str, list[Callable[[random.Random], _Made]]] = {
    "US_SSN": [_broken_ssn, _other_groups, _order, _date, _product],
    "US_BANK_NUMBER": [_order, _amount, _timestamp, _isbn, _product],
    "IP_ADDRESS": [_broken_ipv6, _mac, _code, _date, _version],
    "PHONE_NUMBER": [
        _no_country, _too_short_or_long, _order, _date, _isbn, _version, _timestamp, _coordinates, _list, _amount, _fraction, _product,
    ],
}  # fmt: skip
