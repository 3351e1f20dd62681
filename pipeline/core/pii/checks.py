"""Check digits and number plans: is this string of digits and letters a number that could have been given out. Pure; never fails.

Cards: Luhn and the issuers' published prefixes and lengths. IBAN: the registry's lengths and ISO 7064 mod 97. US SSN: the rules of the
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

IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29, "BY": 28, "CH": 21,
    "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FK": 18, "FO": 18,
    "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23,
    "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27,
    "MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28,
    "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip
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
    """An IBAN without separators, in capitals, of the length its country has, and with right check digits."""
    if IBAN_LENGTHS.get(compact[:2]) != len(compact):
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
    for width in (1, 2, 3):
        patterns = _national_numbers(int(digits[:width] or 0))
        if patterns:
            national = digits[width:]
            return any(p.fullmatch(n) for n in {national, national.removeprefix("0")} for p in patterns)
    return False
