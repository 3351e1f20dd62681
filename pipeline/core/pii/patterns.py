"""The default set in one text as it stands: e-mail and IP addresses, IBANs, and the numbers of pipeline/core/pii/numbers.py.

Each search starts from what it can't do without (an `@`, a dot between digits, two letters and two digits) and looks only at a bounded
stretch around it: no expression here can backtrack further than that. Pure; never fails.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from functools import lru_cache

import tldextract

from pipeline.core.pii import checks
from pipeline.core.pii.numbers import Found, numbers
from pipeline.core.pii_entities import (
    CREDIT_CARD,
    DEFAULT_ENTITIES,
    EMAIL_ADDRESS,
    IBAN_CODE,
    IP_ADDRESS,
    PHONE_NUMBER,
    US_BANK_NUMBER,
    US_SSN,
)

_NONE: frozenset[int] = frozenset()
_DIGIT = re.compile("[0-9]")

_LOCAL = re.compile(r"[\w.+'\-]{1,64}\Z")
_DOMAIN = re.compile(r"[\w\-]{1,63}(?:\.[\w\-]{1,63}){1,24}")
# "bob [at] example [dot] com", "bob at example dot com": at least one of the two signs must be bracketed or both be words.
_AT = re.compile(r"[ ]?[\[({<][ ]?(?:at|@)[ ]?[\])}>][ ]?|[ ]at[ ]|[ ]?@[ ]?", re.IGNORECASE)
_DOMAIN_IN_WORDS = re.compile(
    r"[\w\-]{1,63}(?:(?:[ ]?[\[({<][ ]?(?:dot|\.)[ ]?[\])}>][ ]?|[ ]dot[ ]|[ ]?\.)[\w\-]{1,63}){1,8}", re.IGNORECASE
)
_DOT = re.compile(r"[ ]?[\[({<][ ]?(?:dot|\.)[ ]?[\])}>][ ]?|[ ]dot[ ]|[ ]?\.", re.IGNORECASE)
_IN_WORDS = re.compile(r"[\[({<][ ]?(?:at\b|dot\b|[@.])|[ ]dot[ ]|[ ]@", re.IGNORECASE)
_ALPHANUMERIC = re.compile("[A-Za-z0-9]+")
# Two letters of their own before a digit. What stands before them is looked at last: the search for a letter is the fast one.
_COUNTRY = re.compile(r"([A-Za-z])(?<![A-Za-z0-9].)[\W_]{0,2}([A-Za-z])[\W_]{0,2}(?=[0-9])")
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_IPV6 = re.compile(r"[0-9A-Fa-f:]{2,39}(?:\.[0-9]{1,3}){0,3}")


@lru_cache(maxsize=1)
def _top_level_domains() -> frozenset[str]:
    """All there are, from the list that ships with tldextract; nothing is fetched."""
    known = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None).tlds
    return frozenset(tld.rpartition(".")[2] for tld in known)


def scan(text: str, wanted: frozenset[str] = DEFAULT_ENTITIES, joints: frozenset[int] = _NONE) -> list[Found]:
    """All findings of the `wanted` entities of the default set in `text`, in no order.

    `joints`: positions where texts were put together, at which a value may end although a letter or digit follows.
    """
    found: list[Found] = []
    if EMAIL_ADDRESS in wanted:
        if "@" in text:
            found.extend(_emails(text, joints))
        if _may_be_in_words(text) and _IN_WORDS.search(text):
            found.extend(_emails_in_words(text))
    if _DIGIT.search(text) is None:
        return found
    if IP_ADDRESS in wanted:
        found.extend(_addresses(text, joints))
    if IBAN_CODE in wanted:
        found.extend(_ibans(text, joints))
    numeric = wanted & {CREDIT_CARD, US_SSN, US_BANK_NUMBER, PHONE_NUMBER}
    if numeric:
        found.extend(numbers(text, numeric, joints, list(found)))
    return found


def _may_be_in_words(text: str) -> bool:
    """What a search for an address in words begins with, found in a fraction of the time."""
    if "(" in text or "[" in text or "<" in text or "{" in text or " @" in text:
        return True
    return " dot " in text.lower()


def _emails(text: str, joints: frozenset[int]) -> Iterator[Found]:
    at = text.find("@")
    while at >= 0:
        local = _LOCAL.search(text, max(0, at - 64), at)
        domain = _DOMAIN.match(text, at + 1) if local else None
        if local and domain:
            start = local.start()
            while start < at and text[start] in "'.-":
                start += 1
            end = _domain_end(text, domain.start(), domain.end(), joints)
            if end and start < at:
                yield Found(start, end, EMAIL_ADDRESS, 1.0)
        at = text.find("@", at + 1)


def _domain_end(text: str, start: int, end: int, joints: frozenset[int]) -> int:
    """Where the domain in text[start:end] ends: behind the last known top-level domain, else the last label; 0 where there is none."""
    labels_ = text[start:end].rstrip("-_").split(".")
    ends = []
    position = start - 1
    for label in labels_:
        position += len(label) + 1
        ends.append(position)
    for count in range(len(labels_) - 1, 0, -1):
        if labels_[count].lower() in _top_level_domains():
            return ends[count]
        first = ends[count] - len(labels_[count])
        for joint in range(first + 1, ends[count]) if joints else ():
            if joint in joints and text[first:joint].lower() in _top_level_domains():
                return joint
    for count in range(len(labels_) - 1, 0, -1):
        last = labels_[count]
        plausible = 2 <= len(last) <= 24 and (last.isalpha() or last.startswith("xn--"))
        if plausible and not _inside(joints, ends[count] - len(last), ends[count]):
            return ends[count]
    return 0


def _inside(joints: frozenset[int], start: int, end: int) -> bool:
    return bool(joints) and any(place in joints for place in range(start + 1, end))


def _emails_in_words(text: str) -> Iterator[Found]:
    for sign in _AT.finditer(text):
        local = _LOCAL.search(text, max(0, sign.start() - 64), sign.start())
        domain = _DOMAIN_IN_WORDS.match(text, sign.end()) if local else None
        if local is None or domain is None:
            continue
        dots = [m.group() for m in _DOT.finditer(domain.group())]
        bracketed = sign.group().strip()[0] in "[({<"
        if not bracketed and not any(d != "." for d in dots):
            continue
        words = _DOT.split(domain.group())
        for count in range(len(words) - 1, 0, -1):
            if words[count].lower() in _top_level_domains():
                end = domain.end() if count == len(words) - 1 else _end_of(domain, count)
                yield Found(local.start(), end, EMAIL_ADDRESS, 0.7)
                break


def _end_of(domain: re.Match[str], count: int) -> int:
    """Where the part of `domain` before its dot number `count` ends."""
    return domain.start() + [m.start() for m in _DOT.finditer(domain.group())][count]


def _addresses(text: str, joints: frozenset[int]) -> Iterator[Found]:
    if "." in text:
        for match in _IPV4.finditer(text):
            start, end = match.span()
            if _alone(text, start, end, joints, ".") and _octets(match.group()) and not _is_version(text, start):
                yield Found(start, end, IP_ADDRESS, 0.95)
    if text.count(":") > 1:
        for match in _IPV6.finditer(text):
            start, end = match.span()
            if match.group().count(":") < 2:
                continue
            if text[end - 1] == ":" and text[end - 2] != ":":
                end -= 1
            if _alone(text, start, end, joints, ":") and not _is_slice(text, start) and _is_ipv6(text[start:end]):
                yield Found(start, end, IP_ADDRESS, 0.95)


def _alone(text: str, start: int, end: int, joints: frozenset[int], sign: str) -> bool:
    """Does nothing that would make it a part of something longer stand around text[start:end]."""
    if start > 0 and start not in joints:
        before = text[start - 1]
        if before.isalnum() or before == "_" or (before == sign and text[start - 2 : start - 1].isalnum()):
            return False
    if end < len(text) and end not in joints:
        after = text[end]
        if after.isalnum() or after == "_" or (after == sign and text[end + 1 : end + 2].isalnum()):
            return False
    return True


def _octets(written: str) -> bool:
    return all(int(part) <= 255 and (part == "0" or part[0] != "0") for part in written.split("."))


def _is_version(text: str, start: int) -> bool:
    before = re.findall(r"[a-z]+", text[max(0, start - 16) : start].lower())
    return bool(before) and before[-1] in ("v", "version", "ver", "release", "build", "firmware", "rev", "revision", "section", "chapter")


def _is_slice(text: str, start: int) -> bool:
    """ "items[::2]": an index, for which programs write the same signs."""
    return start > 1 and text[start - 1] == "[" and (text[start - 2].isalnum() or text[start - 2] in "_)]")


def _is_ipv6(written: str) -> bool:
    if not _DIGIT.search(written) or len(written) < 3:
        return False
    try:
        ipaddress.IPv6Address(written)
    except ValueError:
        return False
    return True


def _ibans(text: str, joints: frozenset[int]) -> Iterator[Found]:
    for country in _COUNTRY.finditer(text):
        length = checks.IBAN_LENGTHS.get((country.group(1) + country.group(2)).upper())
        if length is None:
            continue
        written = _of_length(length).match(text, country.start())
        if written is None:
            continue
        end = written.end()
        if end < len(text) and text[end].isalnum() and end not in joints:
            continue
        if checks.is_iban("".join(_ALPHANUMERIC.findall(written.group())).upper()):
            yield Found(country.start(), end, IBAN_CODE, 1.0)


@lru_cache(maxsize=64)
def _of_length(count: int) -> re.Pattern[str]:
    """So many letters and digits, at most three other characters between two of them."""
    return re.compile(rf"[A-Za-z0-9](?:[\W_]{{0,3}}[A-Za-z0-9]){{{count - 1}}}")
