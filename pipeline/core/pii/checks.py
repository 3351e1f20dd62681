"""Check digits and number plans: is this string of digits and letters a number that could have been given out. Pure; never fails.

Cards: Luhn and the issuers' published prefixes and lengths. IBAN: the registry's forms and ISO 7064 mod 97. US SSN: the rules of the
Social Security Administration. Telephone: the country code and its national numbers, from libphonenumber's metadata.
"""

from __future__ import annotations

import re
from functools import lru_cache

import phonenumbers

_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

# Prefix and the lengths that go with it.
_CARD = re.compile(
    r"""4(?:\d{12}|\d{15}|\d{18})                                   # Visa
      | (?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}   # Mastercard
      | 3[47]\d{13}                                                 # American Express
      | 3(?:0[0-59]|[689]\d)\d{11,16}                               # Diners Club
      | (?:6011|64[4-9]\d|65\d\d)\d{12,15}                          # Discover
      | (?:352[89]|35[3-8]\d)\d{12,15}|(?:2131|1800)\d{11}          # JCB
      | 62\d{14,17}                                                 # UnionPay
      | 220[0-4]\d{12,15}                                           # Mir
      | (?:60|81|82|508)\d{13,14}                                   # RuPay
      | (?:5[0678]|6\d)\d{14}|(?:5[0678]|6\d)\d{17}                 # Maestro
    """,
    re.VERBOSE,
)
# Issuers give out more than they publish: where the text itself calls it a card, length and check digit are enough.
_CARD_OF_ANY_ISSUER = re.compile(r"[1-9]\d{11,18}")

_PART = re.compile("([0-9]+)([nac])")
# What follows the check digits, by country, from the registry of ISO 13616: n digits, a letters, c either.
_BBANS = """AD 8n12c; AE 19n; AL 8n16c; AT 16n; AZ 4a20c; BA 16n; BE 12n; BG 4a6n8c; BH 4a14c; BI 23n; BR 23n1a1c; BY 4c4n16c; CH 5n12c;
    CR 18n; CY 8n16c; CZ 20n; DE 18n; DJ 23n; DK 14n; DO 4c20n; EE 16n; EG 25n; ES 20n; FI 14n; FK 2a12n; FO 14n; FR 10n11c2n;
    GB 4a14n; GE 2a16n; GI 4a15c; GL 14n; GR 7n16c; GT 24c; HN 4a20n; HR 17n; HU 24n; IE 4a14n; IL 19n; IQ 4a15n; IS 22n; IT
    1a10n12c; JO 4a4n18c; KW 4a22c; KZ 3n13c; LB 4n20c; LC 4a24c; LI 5n12c; LT 16n; LU 3n13c; LV 4a13c; LY 21n; MC 10n11c2n; MD
    20c; ME 18n; MK 3n10c2n; MN 16n; MR 23n; MT 4a5n18c; MU 4a19n3a; NI 4a20n; NL 4a10n; NO 11n; OM 3n16c; PK 4a16c; PL 24n; PS
    4a21c; PT 21n; QA 4a21c; RO 4a16c; RS 18n; RU 14n15c; SA 2n18c; SC 4a20n3a; SD 14n; SE 20n; SI 15n; SK 20n; SM 1a10n12c; SO
    19n; ST 21n; SV 4a20n; TL 19n; TN 20n; TR 6n16c; UA 6n19c; VA 18n; VG 4a16n; XK 16n; YE 4a4n18c"""
_BBAN_PATTERNS = {
    country: re.compile(
        "".join({"n": "[0-9]", "a": "[A-Z]", "c": "[A-Z0-9]"}[kind] + f"{{{count}}}" for count, kind in _PART.findall(parts))
    )
    for country, parts in (entry.split() for entry in _BBANS.split(";"))
}
IBAN_LENGTHS = {
    country: 4 + sum(int(count) for count, _ in _PART.findall(parts)) for country, parts in (entry.split() for entry in _BBANS.split(";"))
}
_IBAN_DIGITS = {ord(c): str(i + 10) for i, c in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ")}

# Given out once by mistake, in advertisements, and withdrawn for good.
_VOID_SSN = frozenset({"078051120", "219099999"})


def luhn(digits: str) -> bool:
    """Does the last digit check the others (ISO/IEC 7812)."""
    values = [ord(c) - 48 for c in reversed(digits)]
    return (sum(values[::2]) + sum(_DOUBLED[v] for v in values[1::2])) % 10 == 0


def is_card(digits: str, labelled: bool = False) -> bool:
    """A payment card's number, by issuer, length and check digit; `labelled`: the text calls it a card's."""
    plan = _CARD.fullmatch(digits) or (labelled and _CARD_OF_ANY_ISSUER.fullmatch(digits))
    return bool(plan) and luhn(digits)


def is_iban(compact: str) -> bool:
    """An IBAN without separators, in capitals, of the form its country has, and with right check digits."""
    pattern = _BBAN_PATTERNS.get(compact[:2])
    if pattern is None or not pattern.fullmatch(compact, 4) or not compact[2:4].isdigit():
        return False
    return int((compact[4:] + compact[:4]).translate(_IBAN_DIGITS)) % 97 == 1


def is_ssn(digits: str) -> bool:
    """Nine digits that can be a US social security number: area, group and serial within what is given out."""
    return (
        len(digits) == 9 and digits[0] != "9" and digits[:3] not in ("000", "666") and digits[3:5] != "00" and digits[5:] != "0000"
        and digits not in _VOID_SSN
    )  # fmt: skip


@lru_cache(maxsize=256)
def _national_numbers(country_code: int) -> tuple[re.Pattern[str], ...]:
    """Patterns of the national numbers under a country code; none where there is no such code."""
    patterns = []
    for region in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(country_code, ()):
        if region == "001":
            found = phonenumbers.PhoneMetadata.metadata_for_nongeo_region(country_code, None)
        else:
            found = phonenumbers.PhoneMetadata.metadata_for_region(region, None)
        plan = found.general_desc if found is not None else None
        if plan is not None and plan.national_number_pattern:
            patterns.append(re.compile(plan.national_number_pattern))
    return tuple(patterns)


def is_international_phone(digits: str) -> bool:
    """Digits after `+` or `00`: a country code and a number that exists in its plan; a national prefix 0 in between is tolerated."""
    if digits.startswith("0"):
        return False
    for width in (1, 2, 3):
        patterns = _national_numbers(int(digits[:width] or 0))
        if patterns:
            national = digits[width:]
            return any(p.fullmatch(n) for n in {national, national.removeprefix("0")} for p in patterns)
    return False
