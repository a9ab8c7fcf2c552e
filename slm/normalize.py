"""Written English to spoken English: numbers, money, dates, times and abbreviations become words.

Both front ends read the result, so that "Dr. Ito paid $5 in 1999" sounds the same with either. The
reading of a bare number is num2words'; this file decides which reading a piece of writing asks for.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

from num2words import num2words

from .signs import FRACTIONS, SIGNS, SILENT, leave_out_symbols, plain_letters

MAX_DIGITS = 15  # longer runs are read digit by digit: nobody says 10^20 by name

# Titles and words that stand before a name or another word: their period ends no sentence.
_BEFORE = {
    "mr": "mister", "mrs": "missus", "ms": "miz", "messrs": "messers", "dr": "doctor",
    "prof": "professor", "rev": "reverend", "hon": "honorable", "fr": "father", "pres": "president",
    "gov": "governor", "sen": "senator", "rep": "representative", "gen": "general",
    "col": "colonel", "maj": "major", "capt": "captain", "cpt": "captain",
    "lt": "lieutenant", "sgt": "sergeant",
    "cpl": "corporal", "adm": "admiral", "mt": "mount", "ft": "fort", "st": "saint", "vs": "versus",
    "approx": "approximately", "e.g": "for example",
    "i.e": "that is", "cf": "compare",
}  # fmt: skip
_BEFORE_DIGITS = {
    "no": "number", "nos": "numbers", "p": "page", "pp": "pages", "fig": "figure", "vol": "volume",
    "ch": "chapter", "sec": "section",
}  # fmt: skip
# Words that may also stand at the end of a sentence.
_AFTER = {
    "jr": "junior", "sr": "senior", "esq": "esquire", "co": "company", "corp": "corporation",
    "inc": "incorporated", "ltd": "limited", "bros": "brothers", "dept": "department",
    "govt": "government", "ave": "avenue", "blvd": "boulevard", "rd": "road", "etc": "et cetera",
    "est": "established",
}  # fmt: skip
_MONTHS = {
    "jan": "january", "feb": "february", "mar": "march", "apr": "april", "jun": "june",
    "jul": "july", "aug": "august", "sept": "september", "sep": "september", "oct": "october",
    "nov": "november", "dec": "december",
}  # fmt: skip
_UNITS = {
    "km": "kilometer", "cm": "centimeter", "mm": "millimeter", "kg": "kilogram", "mg": "milligram",
    "ml": "milliliter", "ms": "millisecond", "hz": "hertz", "khz": "kilohertz", "mhz": "megahertz",
    "km/h": "kilometer per hour", "kb": "kilobyte", "mb": "megabyte", "gb": "gigabyte",
    "mph": "mile per hour", "lb": "pound",
    "lbs": "pound", "oz": "ounce", "min": "minute", "sec": "second", "hr": "hour", "hrs": "hour",
}  # fmt: skip
_CURRENCIES = {
    "$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent"), "¥": ("yen", "sen"),
}  # fmt: skip
_INVARIABLE = ("hertz", "yen", "sen")
_QUOTES = str.maketrans(
    {c: '"' for c in "“”„‟«»″"} | {c: "'" for c in "‘’‚‛`´′ʼ"} | {"‐": "-", "‑": "-"}
)
_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_MOST_PASSES = 4


def normalize(text: str) -> str:
    """Spoken form of an English text; applying it twice changes nothing.

    Quotes become `"` (those of single marks disappear, apostrophes stay), dashes and ellipses
    become the pause that they are read with, blanks become one space, symbols without a reading go.
    """
    spoken = plain_letters(leave_out_symbols(unicodedata.normalize("NFC", text))[0])
    spoken = spoken.translate(_QUOTES)
    for sign, fraction in FRACTIONS.items():
        spoken = re.sub(rf"(?<=\d)\s*{sign}", f" and {fraction}", spoken).replace(sign, fraction)
    for _ in range(_MOST_PASSES):
        before = spoken
        for pattern, reading in _READINGS:
            spoken = pattern.sub(reading, spoken)
        spoken = _tidy(spoken)
        if spoken == before:  # a reading may leave a dash between blanks, which is read in its turn
            break
    return spoken


def ends_with_abbreviation(text: str) -> bool:
    """Whether the last period of a text belongs to a title, an abbreviation or an initial."""
    match = re.search(r"(?:^|[\s(\"'])([A-Za-z](?:[A-Za-z.]*[A-Za-z])?)\.$", text)
    if match is None:
        return False
    word = match[1].lower()
    if re.fullmatch(r"[a-z](?:\.[a-z])*", word):  # an initial, or "U.S."
        return word != "i"
    return word in _BEFORE or word in _MONTHS


def _words(value: str, **how: Any) -> str:
    """num2words without its hyphens' and commas' pauses; long runs of digits one by one."""
    plain = value.replace(",", "")
    if len(plain.replace(".", "")) > MAX_DIGITS or re.match(r"0\d", plain):
        return _one_by_one(plain)
    if "." in plain:
        whole, decimals = plain.split(".")
        return f"{_words(whole)} point {_one_by_one(decimals)}"
    return str(num2words(int(plain), **how)).replace(",", "").replace("-", " ")


def _one_by_one(value: str) -> str:
    return " ".join("point" if c == "." else num2words(int(c)) for c in value)


def _year(value: str) -> str:
    return _words(value, to="year")


def _ordinal(value: str) -> str:
    return _words(value, to="ordinal")


def _plural(word: str, amount: str) -> str:
    if amount.replace(",", "") in {"1", "1.00"} or word.endswith(_INVARIABLE):
        return word
    if word == "penny":
        return "pence"
    first, _, rest = word.partition(" ")
    return f"{first}s {rest}".strip()


def _money(match: re.Match[str]) -> str:
    unit, part = _CURRENCIES[match["sign"]]
    amount, scale = match["amount"], match["scale"]
    if scale:
        return f"{_words(amount)} {scale} {_plural(unit, scale)}"
    whole, _, cents = amount.partition(".")
    if len(cents) != 2:
        return f"{_words(amount)} {_plural(unit, amount)}"
    spoken = [f"{_words(whole)} {_plural(unit, whole)}"] if int(whole.replace(",", "")) else []
    if int(cents):
        cents = str(int(cents))
        spoken.append(f"{_words(cents)} {_plural(part, cents)}")
    return " and ".join(spoken) or f"zero {_plural(unit, whole)}"


def _time(match: re.Match[str]) -> str:
    hour, minute, half = match["hour"], match["minute"], match["half"]
    spoken = _words(str(int(hour)))
    if minute and int(minute):
        spoken += f" {'oh ' if minute[0] == '0' else ''}{_words(str(int(minute)))}"
    elif not half:
        spoken += " o'clock" if 1 <= int(hour) <= 12 else " hundred"
    return f"{spoken} {_capitals(half)}" if half else spoken


def _capitals(dotted: str) -> str:
    return re.sub(r"[.\s]", "", dotted).upper()


def _fraction(match: re.Match[str]) -> str:
    top, bottom = match["top"], match["bottom"]
    if not 2 <= int(bottom) <= 99 or int(top) > 99:
        return f"{_words(top)} over {_words(bottom)}"
    name = {"2": "half", "4": "quarter"}.get(bottom) or _ordinal(bottom)
    if int(top) != 1:
        name = "halves" if name == "half" else f"{name}s"
    return f"{_words(top)} {name}"


def _decade(match: re.Match[str]) -> str:
    year = match["year"]
    spoken = _words(year) if len(year) == 2 or year.endswith("000") else _year(year)
    return spoken[:-1] + "ies" if spoken.endswith("y") else spoken + "s"


def _month(name: str) -> str:
    return _MONTHS.get(name.lower(), name).capitalize()


def _bare(match: re.Match[str]) -> str:
    value = match[0]
    # Four digits without a comma are read as a year where years lie; "1500 men" is spoken so too.
    if re.fullmatch(r"1[1-9]\d\d|20[1-9]\d", value) and not value.endswith("000"):
        return _year(value)
    return _words(value)


def _expand(table: dict[str, str]) -> Callable[[re.Match[str]], str]:
    def reading(match: re.Match[str]) -> str:
        word = table[match["word"].lower()]
        return word.capitalize() if match["word"][0].isupper() else word

    return reading


def _any_of(table: dict[str, str]) -> str:
    return "|".join(re.escape(word) for word in sorted(table, key=len, reverse=True))


_MONTH_NAMES = "|".join({*_MONTHS.values(), "may"})
_SCALES = "hundred|thousand|million|billion|trillion"
# The period of "p.m." stays where it ends the sentence.
_HALF = r"(?P<half>[ap](?:\.\s?m\b|m\b)(?:\.(?!\s+(?-i:[A-Z])|\s*$))?)"

# In this order: what carries a sign or a neighbour first, bare numbers last.
_READINGS: list[tuple[re.Pattern[str], Callable[[re.Match[str]], str] | str]] = [
    # "St." is a saint before a name and a street after one.
    (re.compile(r"(?<=[a-z]) St\.(?=\s+[a-z]|\s*[,;:!?]|\s*$)"), " Street"),
    (re.compile(rf"\b(?P<word>{_any_of(_BEFORE)})\.(?=\s*[\w\"'(,—-])", re.I), _expand(_BEFORE)),
    (
        re.compile(rf"\b(?P<word>{_any_of(_BEFORE_DIGITS)})\.\s*(?=\d)", re.I),
        lambda m: f"{_BEFORE_DIGITS[m['word'].lower()]} ",
    ),
    # The period of the last word of a sentence stays.
    (
        re.compile(rf"\b(?P<word>{_any_of(_AFTER)})\.(?=[,;:!?)\"]|\s+[a-z])", re.I),
        _expand(_AFTER),
    ),
    (re.compile(rf"\b(?P<word>{_any_of(_AFTER)})(?=\.(?:\s|$))", re.I), _expand(_AFTER)),
    (
        re.compile(
            rf"\b(?P<month>(?:{_any_of(_MONTHS)})(?=\.?\s)|{_MONTH_NAMES})\.?\s+"
            r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?(?=,\s*\d{4}\b|(?![\d:.,/-]*\d|%))",
            re.I,
        ),
        lambda m: f"{_month(m['month'])} {_ordinal(m['day'])}",
    ),
    (
        re.compile(rf"\b(?P<month>{_any_of(_MONTHS)})\.(?=\s*\d)", re.I),
        lambda m: _month(m["month"]),
    ),
    (
        re.compile(
            rf"(?P<sign>[$£€¥])\s?(?P<amount>{_NUMBER})(?:\s+(?P<scale>{_SCALES}))?\b", re.I
        ),
        _money,
    ),
    (
        re.compile(rf"\b(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?!\d|:)(?:\s*{_HALF})?", re.I),
        _time,
    ),
    (re.compile(rf"\b(?P<hour>1[0-2]|[1-9])(?P<minute>)\s*{_HALF}", re.I), _time),
    (re.compile(r"(?<![\w.])'?(?P<year>(?:1\d|20)?\d0)'?s\b"), _decade),
    (
        re.compile(r"\b(?P<value>\d{1,3}(?:,\d{3})+|\d{1,12})(?:st|nd|rd|th)\b", re.I),
        lambda m: _ordinal(m["value"]),
    ),
    (re.compile(r"(?<![\w/])(?P<top>\d{1,3})/(?P<bottom>\d{1,3})(?![\w/])"), _fraction),
    (
        re.compile(rf"(?P<amount>{_NUMBER})\s?(?P<word>{_any_of(_UNITS)})\b\.?(?=[\s,;:!?)]|$)"),
        lambda m: f"{m['amount']} {_plural(_UNITS[m['word']], m['amount'])}",
    ),
    # Letters with periods are no row of sentences; "A." and "I." keep theirs, else they are words.
    (re.compile(r"\b[ap]\.\s?m\b(?:\.(?!\s+(?-i:[A-Z])|\s*$))?", re.I), lambda m: _capitals(m[0])),
    (re.compile(r"\b(?:[A-Z]\.){2,}(?=\s*\w)"), lambda m: " ".join(m[0].split(".")).strip()),
    (re.compile(r"\b[A-Z](?:\.[A-Z])+(?=\.)"), lambda m: m[0].replace(".", " ")),
    # marks that nobody reads may stand between, and are dropped later
    (re.compile(r"\b([B-HJ-Z])\.(?=[\s*_~^|<>\\/#]*\s[\s*_~^|<>\\/#]*[A-Z])"), r"\1"),
    # Telephone numbers and the like, three groups or more, digit by digit.
    (
        re.compile(r"(?<![\w-])\d+(?:-\d+){2,}\b"),
        lambda m: ", ".join(_one_by_one(part) for part in m[0].split("-")),
    ),
    (re.compile(r"(?<=\d)\s*[-–—]\s*(?=\d)"), " to "),
    (re.compile(r"(?<![\w-])[-−](?=\d)"), "minus "),
    (re.compile(r"#\s?(?=\d)"), "number "),
    (re.compile(r"(?<=\d)\s?×\s?(?=\d)"), " times "),
    (re.compile(r"(?<=\d)(?=[A-Za-z])|(?<=[A-Za-z])-?(?=\d)"), " "),
    (re.compile(_NUMBER), _bare),
    (re.compile(f"[{re.escape(''.join(SIGNS))}]"), lambda m: f" {SIGNS[m[0]]} "),
]

_TIDYING = [
    (re.compile(r"\.(?:\s+\.)+"), "..."),
    # Single quotes are apostrophes inside a word and at its end after s; elsewhere they only quote.
    (re.compile(r"(?<!\w)'(?!(?:tis|twas|em|cause|bout|til)\b)"), " "),
    (re.compile(r"(?<![sS])'(?!\w)"), ""),
    # A dash is a pause; so are three dots, which end a sentence before a capital and at the end.
    (re.compile(r"\s*(?:—|–|--+|\s-\s)\s*"), ", "),
    (re.compile(r"\s*(?:…|\.{2,})(?=\W*(?:[A-Z]|$))"), "."),
    (re.compile(r"\s*(?:…|\.{2,})"), ","),
    (re.compile(r"[\[{]"), "("),
    (re.compile(r"[\]}]"), ")"),
    (re.compile(f"[{re.escape(SILENT)}]+"), " "),
    # Of two marks that meet, the stronger one stays.
    (re.compile(r"^[\s,;:.]+"), ""),
    (re.compile(r",(?=\s*[,.;:!?])"), ""),
    (re.compile(r"(?<=[.;:!?])\s*[.,](?!\d)"), ""),
    (re.compile(r"(?:(?<=^\")|(?<=\s\"))\s*,"), ""),
    (re.compile(r"\s+(?=[,.;:!?)])"), ""),
    (re.compile(r"(?<=^[\"(])\s+|(?<=\s[\"(])\s+"), ""),
    (re.compile(r"\s+"), " "),
]


def _tidy(text: str) -> str:
    for pattern, replacement in _TIDYING:
        text = pattern.sub(replacement, text)
    return text.strip()
