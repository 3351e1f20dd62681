"""What the words around a number call it: a telephone, a bank account, a card, a social security number, or something else.

Numbers without a form of their own are only told apart by this. The nearest label before the number counts, within `REACH` characters
and not beyond another number (the numbers of a list share one label); failing that, one right behind it ("... is my office number").
Looking up words costs the same however many there are. Pure; never fails.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

REACH = 48
BEHIND = 40

PHONE: Final = "phone"
BANK: Final = "bank"
CARD: Final = "card"
SSN: Final = "ssn"
OTHER: Final = "other"

_LABELS = {
    PHONE: """ph phone phones telephone telephones
        tel tél tlf tfn fon tele mobile mobil móvil movil mob cell cellular cellphone celular handy
        handynummer fax faxes desk office landline hotline helpline pager whatsapp viber telegram sms gsm dial dialing dialling portable
        telefon telefonnummer rufnummer mobilnummer mobiltelefon telefono teléfono telefone telefoon téléphone cellulare numéro puhelin
        puhelinnumero telefonszám телефон телефона телефону тел моб мобильный τηλέφωνο κινητό هاتف جوال טלפון फ़ोन फोन số đt điện""",
    BANK: "account accounts acct acc iban bank deposit konto kontonummer cuenta compte",
    CARD: """card cards visa amex mastercard maestro discover diners jcb cc pan creditcard cardnumber kreditkarte karte tarjeta carte kort
        cartão carta""",
    SSN: "ssn ssns social",
    OTHER: """order orders invoice invoices ticket tickets tracking track isbn issn ean upc gtin doi orcid version versions ver v release
        releases build firmware serial part parts sku model batch lot case claim policy booking reservation confirmation reference ref
        receipt transaction shipment parcel package flight room item items product article page pages chapter section timestamp date dated
        born epoch vat ein tax passport licence license permit patent commit revision port pid zip postal postcode member membership
        student user uid id ids row rows byte bytes usd eur gbp dollars euros routing aba swift bic total amount price population
        coordinates latitude longitude coordinate hash checksum seed""",
}  # fmt: skip
_LABEL_OF = {word: label for label, words in _LABELS.items() for word in words.split()}
# Verbs that announce a telephone where the number, or one of these words, follows.
_CALLING = frozenset(
    [
        "call",
        "calls",
        "called",
        "calling",
        "ring",
        "text",
        "texting",
        "phoning",
        "reach",
        "reached",
        "reachable",
        "contact",
        "message",
        "buzz",
        "me",
        "us",
        "him",
        "her",
    ]
)
_CALLED = frozenset(["me", "us", "him", "her", "them", "back", "at", "on", "via", "under"])
_POSSESSIVES = frozenset(["my", "his", "her", "their", "our"])
_NUMBER = frozenset(["number", "numbers", "no", "nr", "num", "details"])
# "T: 020 7946 0018", as in signatures; a letter alone before digits that nothing divides may be a quantity.
_INITIAL = re.compile(r"(?<![^\W_])[tmpfhw][ ]?[:.][ ]{0,2}([+(]{0,2})\Z")
_DIVIDED = re.compile(r"[0+(]|[0-9]{1,6}[ ().\-/][0-9 ().\-/]")
_DIRECT = frozenset(["call", "calling", "text", "ring"])

_WORD = re.compile(r"a/c(?![^\W\d_])|[^\W\d_]+|[$€£¥₹]")
_CURRENCY = frozenset("$€£¥₹")
# Places and things as often as telephones: labels only where nothing but these words follows.
_WEAK = frozenset(["office", "desk", "cell", "portable", "handy", "carte", "karte", "discover", "pan"])
_FILLERS = frozenset(["number", "numbers", "no", "num", "nr", "phone", "line", "is"])
_UNSPACED = re.compile("電話|电话|手机|手機|携帯|전화|휴대폰|โทร")
_UNSPACED_CARD = re.compile("カード|卡号|卡號|카드")
_BEHIND = re.compile(
    r"""[\s)(\-–,/:]{0,3}(?:(?:is|was)\s+(?:(?:my|our|his|her|their|the|your|a)\s+)?(?:\w+\s+){0,2})?
        (?:office|home|work|desk|mobile|cell|fax|phone|tel|telephone|landline|hotline)\b""",
    re.VERBOSE,
)
_LISTED = re.compile(r"\s*(?:,|;|/|\||&|or|and|und|oder|et|ou|y|o)\s*")


def label_before(text: str, start: int, previous_end: int, joints: frozenset[int] = frozenset()) -> str | None:
    """The nearest label before `start`, looking back no further than the end of the number before it; None where there is none.

    A label may go over the `joints`, where texts were put together, or begin or end there, as a name in JSON does.
    """
    low = max(0, start - REACH, previous_end)
    if low >= start:
        return None
    window = text[low:start].lower()
    found = _label_in(window, text, start)
    if found is None and joints:
        cuts = [low, *(place for place in range(low + 1, start) if place in joints), start]
        if len(cuts) > 2:
            found = _label_in(" ".join(text[a:b] for a, b in pairwise(cuts)).lower(), text, start)
    return found


def _label_in(window: str, text: str, start: int) -> str | None:
    """The nearest label in `window`, the part of `text` before `start` in lower case."""
    words = _WORD.findall(window)
    follower, direct = "", True
    for word in reversed(words):
        if word == "a/c":
            return BANK
        label = _LABEL_OF.get(word)
        if label is not None and (direct or word not in _WEAK):
            return label
        direct = direct and word in _FILLERS
        if word in _CURRENCY:
            if not follower:
                return OTHER
        elif _announces_phone(word, follower):
            return PHONE
        follower = word
    initial = _INITIAL.search(window)
    if initial and (initial.group(1) or _DIVIDED.match(text, start)):
        return PHONE
    if not window.isascii():
        if _UNSPACED.search(window):
            return PHONE
        if _UNSPACED_CARD.search(window):
            return CARD
    return None


def _announces_phone(word: str, follower: str) -> bool:
    """ "call me at", "contact number", "my number is": two words that follow each other, the second empty before the number itself."""
    if word in _CALLING and (follower in _CALLED or (not follower and word in _DIRECT)):
        return True
    return (word == "contact" and follower in _NUMBER) or (word in _POSSESSIVES and follower == "number")


def listed(text: str, start: int, end: int) -> bool:
    """Is the text between two numbers only what stands in a list of them."""
    return end - start <= 8 and _LISTED.fullmatch(text[start:end].lower()) is not None


def phone_behind(text: str, end: int) -> bool:
    """Is the number that ends at `end` called a telephone right behind it."""
    return _BEHIND.match(text[end : end + BEHIND].lower()) is not None
