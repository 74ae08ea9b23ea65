"""Masks or drops personal data in answers, so that the student cannot learn and repeat it.

Found are e-mail addresses, telephone numbers, card numbers, IBANs and IP addresses: by their shape, and, where they have one, by
their checksum. Names and postal addresses have neither, and are not found.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from potstill.generation.gates.base import GateContext, is_json
from potstill.records import Verdict

NAME = "personal_data"
VERSION = 1

_EMAIL = re.compile(r"(?<![\w.+%'-])\w[\w.+%'-]{0,63}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
_IBAN = re.compile(r"(?<!\w)([A-Za-z]{2})\d{2}(?:[ -]?[A-Za-z0-9]){11,30}")
_CARD = re.compile(r"(?<![\w+.,-])\d(?:[ -]?\d){12,18}(?!\w)")
_ISSUERS = re.compile(r"4(?:.{12}|.{15}|.{18})|(?:5[1-5]|2[2-7]).{14}|3[47].{13}|3(?:0[0-5]|[68]).{11,16}|35.{14,17}|6(?:011|4[4-9]|5|2).*")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_VERSION_BEFORE = re.compile(r"(?:\bv|\bversion|\brelease|\bsection|§)[ .:]*\Z", re.IGNORECASE)
_DATE = re.compile(r"\d{1,2}([./-])\d{1,2}\1\d{4}|\d{4}-\d{2}-\d{2}")
_PHONES = (
    re.compile(r"(?<![\w+.])(?<!\d[ -])(?:\+|00)[1-9](?:[ .()/-]{0,2}\d){6,14}(?!\w)"),  # international, 7 to 15 digits (ITU-T E.164)
    re.compile(
        r"(?<![\w.,+-])(?<!\d[ -])(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .-])[2-9]\d{2}[ .-]\d{4}(?!\w|[.,-]\d)"
    ),  # North America
    re.compile(
        r"(?<![\w.,+-])(?<!\d[ -])(?:\(0[1-9]\d{0,3}\) ?|0[1-9]\d{0,3}[ /-])\d(?:[ -]?\d){5,9}(?!\w|[.,]\d)"
    ),  # area codes with a 0 in front
    re.compile(r"(?<![\w.,+-])(?<!\d[ -])0[1-9](?:[ .-]\d{2}){4}(?!\w)"),  # pairs of digits, as in France
    re.compile(
        r"(?:\b(?:tel|phone|telephone|mobile|cell|fax|whatsapp|telefon\w*|handy\w*|téléphone|teléfono|telefono|móvil|celular|телефон\w*)\b"
        r"|电话|電話|手机|手機|携帯|전화)\D{0,24}?(?<!\w)(\d{7,15})(?!\w)",
        re.IGNORECASE,
    ),  # bare digits after a word that says what they are
)
# Length of an IBAN by country (SWIFT IBAN registry, release 97).
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ DZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA YE",
        30: "JO KW MU",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}

Span = tuple[int, int]


def personal_data(context: GateContext) -> Verdict:
    """Mask or drop, as `gates.personal_data` says; a masked answer stands in the verdict's text. Codes: the kinds found, joined by `+`.

    What the prompt itself says is masked in the answer too. Reasons count, and never quote.
    """
    settings = context.gates.personal_data
    if settings is None:
        return Verdict(NAME, True, version=VERSION)
    text = context.completion.text
    masked, found = mask(text, settings.kinds)
    if not found:
        return Verdict(NAME, True, version=VERSION)
    code = "+".join(kind for kind in settings.kinds if found[kind])
    counts = ", ".join(f"{kind} {found[kind]:,}" for kind in settings.kinds if found[kind])
    if settings.action == "drop":
        return Verdict(NAME, False, f"holds personal data: {counts}", VERSION, code)
    if context.schema is not None and not is_json(masked):
        return Verdict(NAME, False, f"holds personal data that cannot be masked within JSON: {counts}", VERSION, code)
    return Verdict(NAME, True, f"masked: {counts}", VERSION, code, masked)


def mask(text: str, kinds: Sequence[str]) -> tuple[str, Counter[str]]:
    """The text with `[EMAIL]`, `[IBAN]`, `[CARD]`, `[IP]`, `[PHONE]` in the place of what was found, and how often each kind was.

    Masking what is masked changes nothing.
    """
    found: Counter[str] = Counter()
    while spans := _spans(text, kinds):
        for start, end, kind in reversed(spans):
            text = f"{text[:start]}[{kind.upper()}]{text[end:]}"
            found[kind] += 1
    return text, found


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (Luhn, ISO/IEC 7812-1, annex B)."""
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def passes_mod_97(iban: str) -> bool:
    """Whether the check digits of an IBAN, without blanks, are right (ISO 13616, ISO 7064)."""
    return int("".join(str(int(character, 36)) for character in iban[4:] + iban[:4])) % 97 == 1


def _spans(text: str, kinds: Sequence[str]) -> list[tuple[int, int, str]]:
    """What is to be masked, in order; of two that overlap, the kind whose shape says more."""
    chosen: list[tuple[int, int, str]] = []
    for kind, find in _FIND.items():
        if kind in kinds:
            free = (span for span in find(text) if all(span[1] <= start or end <= span[0] for start, end, _ in chosen))
            for start, end in free:
                chosen.append((start, end, kind))
    return sorted(chosen)


def _emails(text: str) -> Iterator[Span]:
    return (match.span() for match in _EMAIL.finditer(text))


def _ibans(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match[1].upper(), 0)
        places = [place for place in range(*match.span()) if text[place] not in " -"][:length]
        end = places[-1] + 1 if places else 0
        alone = not text[end : end + 1].isalnum()
        if length and len(places) == length and alone and passes_mod_97("".join(text[place] for place in places)):
            yield match.start(), end


def _cards(text: str) -> Iterator[Span]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if digits.isascii() and _ISSUERS.fullmatch(digits) and passes_luhn(digits):
            yield match.span()


def _addresses(text: str) -> Iterator[Span]:
    for match in _IPV4.finditer(text):
        if _is_address(match[0]) and not _VERSION_BEFORE.search(text[max(0, match.start() - 12) : match.start()]):
            yield match.span()
    for match in _IPV6.finditer(text):
        groups = [group for group in match[0].split(":") if group]
        # `100::2` is a slice and `Ab::Cd` a name in some language; neither has three groups, nor letters beside digits.
        telling = any(len(group) > 2 and not group.isdigit() and not group.isalpha() for group in groups)
        if (len(groups) > 2 or telling) and _is_address(match[0]):
            yield match.span()


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _phones(text: str) -> Iterator[Span]:
    for pattern in _PHONES:
        for match in pattern.finditer(text):
            if not _DATE.match(match[0]):
                yield match.span(match.lastindex or 0)


_FIND: dict[str, Callable[[str], Iterator[Span]]] = {
    "email": _emails,
    "iban": _ibans,
    "card": _cards,
    "ip": _addresses,
    "phone": _phones,
}
