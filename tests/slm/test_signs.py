"""Symbols without a reading: left out alike by every front end, and named."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechlm.errors import UnsupportedText
from speechlm.slm.letters import LetterPhonemes
from speechlm.slm.normalize import normalize
from speechlm.slm.phonemes import EspeakPhonemes
from speechlm.slm.signs import FRACTIONS, SIGNS, leave_out_symbols, note_on
from speechlm.slm.text import TextFrontEnd, speakable


@pytest.fixture(scope="module", params=["letters", "espeak"])
def front_end(request: pytest.FixtureRequest) -> TextFrontEnd:
    if request.param == "letters":
        return LetterPhonemes.shipped()
    pytest.importorskip("phonemizer")
    return EspeakPhonemes()


@pytest.mark.parametrize(
    "text",
    [
        "I 😀 say so.",
        "I say so 👨\u200d👩\u200d👧.",
        "I ❤️ say so.",
        "🇩🇪 I say so.",
        "I → say © so.",
        "I say ① so.",
        "I say \ue000 so.",
        "I say so.\x07",
    ],
)
def test_symbols_sound_as_if_they_were_not_there(text: str, front_end: TextFrontEnd) -> None:
    assert front_end.phonemize(text) == front_end.phonemize("I say so.")


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("x² ± 1", "x squared plus or minus one"),
        ("a × b ÷ c", "a times b divided by c"),
        ("№ 5, § 7", "number five, section seven"),
        ("⅖ of ¥500", "two fifths of five hundred yen"),
        ("$1 million, £0.00", "one million dollars, zero pounds"),
        ("𝐁𝐨𝐥𝐝 and Ｗｉｄｅ", "Bold and Wide"),
        ("soft\u00adly, no\u200bwhere", "softly, nowhere"),
        ("1️⃣ to 9", "one to nine"),
    ],
)
def test_what_has_a_reading_is_read(written: str, spoken: str) -> None:
    assert normalize(written) == spoken
    assert leave_out_symbols(written)[1] == []


@given(st.text(max_size=40))
def test_what_is_left_out_is_all_that_is_missing(text: str) -> None:
    rest, left_out = leave_out_symbols(text)
    assert leave_out_symbols(rest) == (rest, [])
    assert len(set(left_out)) == len(left_out) and set(left_out) <= set(text)
    kept = "".join(c for c in text if c not in left_out)
    assert [c for c in kept if c.isalnum()] == [c for c in rest if c.isalnum()]


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("Hello ☃.", "Hello."),
        ("Hello ☃ ☃ you", "Hello you"),
        ("Hello☃you", "Hello you"),
        ("☃\n\nOne. ☃\n\nTwo.", "\n\nOne.\n\nTwo."),
    ],
)
def test_no_hole_stays_where_a_symbol_was(text: str, rest: str) -> None:
    assert leave_out_symbols(text)[0] == rest


def test_every_sign_with_a_reading_stays() -> None:
    for sign in (*SIGNS, *FRACTIONS):
        assert leave_out_symbols(sign) == (sign, [])
        assert normalize(f"so {sign} so") != normalize("so so")


def test_the_note_names_each_symbol_once_and_not_too_many() -> None:
    _, left_out = leave_out_symbols("😀 so 😀 → so \ue000")
    note = note_on(left_out)
    assert note.count("😀") == 1 and "grinning face" in note and "rightwards arrow" in note
    assert "U+E000" in note and "\n" not in note
    many = note_on([chr(0x1F600 + n) for n in range(12)])
    assert many.endswith("and 7 more.")
    assert note_on([chr(0xD800)]).isprintable()  # half a character: no terminal could show it


@pytest.mark.parametrize("text", ["😀", "→ ①", " ♥ … "])
def test_a_text_of_symbols_alone_is_refused_and_shown(text: str) -> None:
    with pytest.raises(UnsupportedText, match=r"nothing to speak in .*with words") as caught:
        speakable(text)
    assert text.strip() in str(caught.value)


@given(st.text(max_size=30).filter(lambda t: unicodedata.is_normalized("NFC", t)))
def test_normalizing_leaves_no_symbol(text: str) -> None:
    assert leave_out_symbols(normalize(text))[1] == []
