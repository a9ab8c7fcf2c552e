"""The symbol table, espeak's front end, normalization and sentence splitting."""

from __future__ import annotations

import builtins
import json
import random
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from speechlm.errors import ConfigError, MissingExtra, UnsupportedText
from speechlm.slm.letters import LetterPhonemes
from speechlm.slm.normalize import normalize
from speechlm.slm.phonemes import EspeakPhonemes, tidy_phonemes
from speechlm.slm.text import (
    BOUNDARY,
    MAX_TEXT_CHARACTERS,
    SPECIALS,
    SymbolTable,
    TextFrontEnd,
    default_front_end,
    split_sentences,
)

TABLE = SymbolTable()
WORDS = """
the a of to strength rhythm queue colonel island Nebuchadnezzar naïve café button mountain water
mother-in-law John's dogs' don't o'clock FBI NASA Ph.D. U.S. x-ray jalapeño loch Bach genre Müller
3.14 $5.20 1999 21st 10:30 50% & @ (perhaps) "quoted" 'single' well— wait... what?! yes; no: über
Straße 😀 ½ °C A22 www.example.com a_b c/d [brackets] {braces} <tag> * # ~
""".split()


@pytest.fixture(scope="module")
def espeak() -> EspeakPhonemes:
    pytest.importorskip("phonemizer")
    return EspeakPhonemes()


@given(st.text(st.sampled_from(TABLE.symbols[len(SPECIALS) :]), max_size=60))
def test_encode_and_decode_are_inverse_with_a_boundary_at_both_ends(phonemes: str) -> None:
    phonemes += "ə"
    ids = TABLE.encode(phonemes)
    assert len(ids) == len(phonemes) + 2
    assert ids[0] == ids[-1] == BOUNDARY
    assert BOUNDARY not in ids[1:-1]
    assert TABLE.decode(ids) == phonemes


def test_a_table_survives_json_in_its_order() -> None:
    symbols = json.loads(json.dumps(TABLE.symbols))
    assert SymbolTable(symbols) == TABLE
    shuffled = [*SPECIALS, *reversed(symbols[len(SPECIALS) :])]
    assert SymbolTable(shuffled).encode("ə") != TABLE.encode("ə")


@pytest.mark.parametrize(
    "symbols", [["a", "b"], [*SPECIALS, "ab"], [*SPECIALS, "a", "a"], list(SPECIALS[:2])]
)
def test_a_broken_table_is_refused(symbols: list[str]) -> None:
    with pytest.raises(ConfigError):
        SymbolTable(symbols)


def test_unknown_symbols_are_refused_and_clean_drops_them() -> None:
    with pytest.raises(UnsupportedText, match="does not know"):
        TABLE.encode("hˈ5lo")
    assert TABLE.encode(TABLE.clean("hˈ5l̩oʊ")) == TABLE.encode("hˈloʊ")


@pytest.mark.parametrize("phonemes", ["", " ", "...", "ˈˌ!?"])
def test_phonemes_without_a_sound_are_refused(phonemes: str) -> None:
    with pytest.raises(UnsupportedText, match="nothing to speak"):
        TABLE.encode(phonemes)


def test_espeak_output_is_always_encodable(espeak: EspeakPhonemes) -> None:
    draw = random.Random(0)
    for _ in range(300):
        phonemes = espeak.phonemize("so " + " ".join(draw.choices(WORDS, k=draw.randint(1, 12))))
        assert TABLE.decode(TABLE.encode(phonemes)) == phonemes


def test_espeak_writes_what_the_speech_data_holds(espeak: EspeakPhonemes) -> None:
    assert isinstance(espeak, TextFrontEnd)
    assert espeak.note is None
    assert espeak.phonemize('"As I thought," he said.') == '"æz aɪ θˈɔːt," hiː sˈɛd.'
    assert espeak.phonemize("Dr. Bach’s certain") == "dˈɑːktɚ bˈɑːks sˈɜːʔn"


def test_tidy_replaces_sounds_and_joins_a_loose_possessive() -> None:
    assert tidy_phonemes("lˈɑːx rˈɛd ˈɛf z, tʲ ") == "lˈɑːk ɹˈɛd ˈɛfz, tj"


@pytest.mark.parametrize("text", ["", "  \n", "!!!", "a" * (MAX_TEXT_CHARACTERS + 1)])
def test_espeak_refuses_text_it_cannot_speak(espeak: EspeakPhonemes, text: str) -> None:
    with pytest.raises(UnsupportedText):
        espeak.phonemize(text)


@pytest.mark.parametrize("text", ["Привет", "I love 你好", "naïve Ωmega"])
def test_letters_of_another_script_are_refused_not_dropped(text: str) -> None:
    with pytest.raises(UnsupportedText, match="cannot read"):
        default_front_end().phonemize(text)
    with pytest.raises(UnsupportedText, match="cannot read"):
        LetterPhonemes.shipped().phonemize(text)
    assert LetterPhonemes.shipped().phonemize("naïve café")


def test_an_unknown_language_is_refused() -> None:
    pytest.importorskip("phonemizer")
    with pytest.raises(ConfigError, match="xx-nowhere"):
        EspeakPhonemes("xx-nowhere")


def test_without_espeak_the_letter_model_speaks_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    front_end = default_front_end()
    assert isinstance(front_end, TextFrontEnd)
    assert front_end.note is not None
    assert "[phonemes]" in front_end.note
    assert TABLE.encode(front_end.phonemize("Any sentence of yours."))
    with pytest.raises(MissingExtra, match="phonemes"):
        default_front_end("de")


def test_espeak_without_its_packages_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith(("phonemizer", "espeakng_loader")):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtra, match="extra `phonemes`"):
        EspeakPhonemes()


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Dr. Ito paid $5 in 1999.", "Doctor Ito paid five dollars in nineteen ninety nine."),
        ("Mr. and Mrs. Hale", "Mister and Missus Hale"),
        ("12 Baker St., near St. Paul's", "twelve Baker Street, near Saint Paul's"),
        ("£3.50 or €1,200", "three pounds and fifty pence or one thousand two hundred euros"),
        ("$1 and $0.99; $2.5 million", "one dollar and ninety nine cents; "
         "two point five million dollars"),
        ("the 1990s, the '80s", "the nineteen nineties, the eighties"),
        ("10:30 p.m. or 5:00 or 7:05", "ten thirty PM or five o'clock or seven oh five"),
        ("July 4, 1776; the 21st", "July fourth, seventeen seventy six; the twenty first"),
        ("Oct. 3rd", "October third"),
        ("3.14 and -7", "three point one four and minus seven"),
        ("1/2, 3/4, 2½", "one half, three quarters, two and one half"),
        ("pages 10-12", "pages ten to twelve"),
        ("555-123-4567", "five five five, one two three, four five six seven"),
        ("007", "zero zero seven"),
        ("9" * 20, " ".join(["nine"] * 20)),
        ("5% of 20,000", "five percent of twenty thousand"),
        ("1 kg, 5 kg", "one kilogram, five kilograms"),
        ("No. 5? No.", "number five? No."),
        ("A&B", "A and B"),
        ("the U.S. Army, etc.", "the U S Army, et cetera."),
        ("‘Yes,’ she said — “now…”", 'Yes, she said, "now."'),
        ("wait ... what", "wait, what"),
        ("don’t, dogs’ and 'tis", "don't, dogs' and 'tis"),
    ],
)  # fmt: skip
def test_normalization_reads_writing_aloud(written: str, spoken: str) -> None:
    assert normalize(written) == spoken


@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join) | st.text(max_size=40))
@example("Ph.D. * John's")
def test_normalization_leaves_no_digit_and_changes_nothing_twice(text: str) -> None:
    once = normalize(text)
    assert not any(c in "0123456789$%" for c in once)
    assert normalize(once) == once


def test_sentences_are_cut_at_their_ends_only() -> None:
    text = (
        'Mr. J. R. Smith of St. Ives paid $3.50 to Prof. Lee. "Why on earth?" she asked them all. '
        "He had met the U.S. ambassador in Jan. 1999!"
    )
    assert split_sentences(text) == [
        "Mr. J. R. Smith of St. Ives paid $3.50 to Prof. Lee.",
        '"Why on earth?" she asked them all.',
        "He had met the U.S. ambassador in Jan. 1999!",
    ]


def test_a_long_sentence_is_cut_between_clauses() -> None:
    text = "When the rain had stopped at last, they went down to the river, and nobody spoke."
    assert split_sentences(text, 50) == [
        "When the rain had stopped at last,",
        "they went down to the river, and nobody spoke.",
    ]


def test_short_sentences_join_a_neighbour() -> None:
    assert split_sentences("No. Yes! Perhaps.") == ["No. Yes! Perhaps."]


@given(
    st.lists(st.sampled_from([*WORDS, "word,", "end.", "x" * 30]), min_size=1, max_size=60).map(
        " ".join
    ),
    st.integers(40, 200),
)
def test_splitting_loses_nothing_and_keeps_the_bound(text: str, max_symbols: int) -> None:
    pieces = split_sentences(text, max_symbols)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(len(normalize(piece)) <= max_symbols for piece in pieces)


@pytest.mark.parametrize(("text", "limit"), [("", 100), (" \n ", 100)])
def test_splitting_refuses_an_empty_text(text: str, limit: int) -> None:
    with pytest.raises(UnsupportedText):
        split_sentences(text, limit)
    with pytest.raises(ConfigError):
        split_sentences("a", 0)
