"""The built-in letter-to-phoneme model, and how it is trained."""

from __future__ import annotations

import functools
import itertools
import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import speechlm.slm
from speechlm.errors import CorpusError, CorruptWeights, UnsupportedText
from speechlm.slm.letters import LetterConfig, LetterModel, LetterPhonemes, letter_ids
from speechlm.slm.text import SymbolTable, is_speakable
from speechlm.train.letters import train_letters
from speechlm.train.lexicon import align_words, distance

TABLE = SymbolTable()
SHIPPED = Path(speechlm.slm.__file__).parent / "weights" / "letters"

# Not chosen for what the model can do: the opening of a fable, and plain modern sentences.
SENTENCES = [
    "A fox one day fell into a deep well and could find no means of escape.",
    "The goat, overcome with thirst, came to the same well and saw the fox.",
    "Please leave your message after the tone, and we will call you back.",
    "The children were playing in the garden when it began to rain.",
    "She had never seen anything so beautiful in all her life.",
    "What time does the next train to the city leave?",
    "Every number in this table was measured on one machine.",
    "He opened the window, looked out, and shouted for help!",
]


@functools.cache
def shipped() -> LetterPhonemes:
    return LetterPhonemes.shipped()


@pytest.fixture
def front_end() -> LetterPhonemes:
    return shipped()


def error_rate(read: list[str], true: list[str]) -> float:
    return sum(map(distance, read, true)) / sum(map(len, true))


def test_shipped_model_reads_sentences_nearly_as_espeak_does(front_end: LetterPhonemes) -> None:
    pytest.importorskip("phonemizer")
    from speechlm.slm.phonemes import EspeakPhonemes

    espeak = EspeakPhonemes()
    read = [front_end.phonemize(s) for s in SENTENCES]
    assert error_rate(read, [espeak.phonemize(s) for s in SENTENCES]) < 0.05


def test_known_readings_need_no_espeak(front_end: LetterPhonemes) -> None:
    assert front_end.phonemize("The end of the apple.") == "ðɪ ˈɛnd ʌvðɪ ˈæpəl."
    assert front_end.phonemize('"Well," she said.') == '"wˈɛl," ʃiː sˈɛd.'


def test_punctuation_and_blanks_stay_where_they_were(front_end: LetterPhonemes) -> None:
    phonemes = front_end.phonemize('"Stop!" (he said); no: wait, why?')
    assert "".join(c for c in phonemes if c in '"!();:,.? ') == '"!" ( ); : , ?'


def test_acronyms_are_spelled_and_headlines_are_not(front_end: LetterPhonemes) -> None:
    assert front_end.phonemize("the FBI") == "ðɪ ˌɛfbˌiːˈaɪ"
    assert front_end.phonemize("FBI's GPUs") == "ˌɛfbˌiːˈaɪz dʒˌiːpˌiːjˈuːz"
    assert front_end.phonemize("THE CAT SAT") == front_end.phonemize("the cat sat")


def test_accents_hyphens_and_endless_words_are_read(front_end: LetterPhonemes) -> None:
    assert front_end.phonemize("café") == front_end.phonemize("cafe")
    assert " " not in front_end.phonemize("half-baked")
    assert len(front_end.phonemize("ab" * 500)) > 500


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_encodable_or_refused(text: str) -> None:
    try:
        phonemes = shipped().phonemize(text)
    except UnsupportedText:
        return
    if is_speakable(phonemes):
        assert TABLE.decode(TABLE.encode(phonemes)) == phonemes


@pytest.mark.parametrize("text", ["", " ", "?!", "日本語", "'"])
def test_text_without_latin_words_is_refused(front_end: LetterPhonemes, text: str) -> None:
    with pytest.raises(UnsupportedText):
        front_end.phonemize(text)


def test_shipped_files_are_small_and_state_their_figures() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 3_000_000
    figures = json.loads((SHIPPED / "figures.json").read_text("utf-8"))
    assert figures["sentence_phoneme_error_rate"] < 0.05


def test_a_batch_reads_as_each_word_alone() -> None:
    torch.manual_seed(0)
    model = LetterModel(LetterConfig("ab", 16, 2, 2, 16)).eval()
    words = ["a", "it's", "extraordinary"]
    rows = [letter_ids(word) for word in words]
    together = model(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True))
    for i, row in enumerate(rows):
        alone = model(row[None])[0]
        torch.testing.assert_close(together[i, : len(alone)], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("damage", ["missing", "cut", "nan", "shape", "unknown", "lexicon"])
def test_damaged_model_folders_are_refused(tmp_path: Path, damage: str) -> None:
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "letters"))
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    if damage == "missing":
        weights.unlink()
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif damage == "nan":
        save_file(tensors | {"head.bias": tensors["head.bias"] * torch.nan}, weights)
    elif damage == "shape":
        save_file(tensors | {"head.bias": tensors["head.bias"][:-1].clone()}, weights)
    elif damage == "unknown":
        config = json.loads((folder / "config.json").read_text("utf-8")) | {"colour": 1}
        (folder / "config.json").write_text(json.dumps(config), "utf-8")
    else:
        (folder / "lexicon.json").write_text('{"the": "ðə"}', "utf-8")
    with pytest.raises(CorruptWeights):
        LetterPhonemes.from_folder(folder)


def test_words_are_aligned_with_what_speaks_them() -> None:
    isolated = {"one": "wˈʌn", "of": "ʌv", "the": "ðə", "men": "mˈɛn"}
    pairs = align_words(["one", "of", "the", "men"], ["wˈʌn", "ʌvðə", "mˈɛn"], isolated.__getitem__)
    assert pairs == [(("one",), "wˈʌn"), (("of", "the"), "ʌvðə"), (("men",), "mˈɛn")]


def test_training_learns_repeats_itself_and_is_loadable(tmp_path: Path) -> None:
    pytest.importorskip("phonemizer")
    listing = tmp_path / "sentences.txt"
    onsets = "b bl d f fl g gr k l m n p pl r s st t tr".split()
    names = [onset + rime for onset in onsets for rime in "at en id op ug am est ing".split()]
    lines = [f"The {a} of the {b}." for a, b in itertools.pairwise(names)]
    listing.write_text("\n".join([*lines, *(f"{name}er {name}s" for name in names)]), "utf-8")
    options = {"num_steps": 250, "spliced": 50, "min_count": 20, "batch_size": 32}
    shape = LetterConfig("", hidden_size=32, num_layers=1, ffn_size=64)
    runs = [train_letters(listing, tmp_path / f"run{i}", shape=shape, **options) for i in range(2)]
    first, second = (tmp_path / f"run{i}" / "model.safetensors" for i in range(2))
    assert first.read_bytes() == second.read_bytes()
    assert runs[0] == runs[1]
    reader = LetterPhonemes.from_folder(tmp_path / "run0")
    assert reader.lexicon["of the"]
    assert "ʌvðə" in reader.phonemize("bat of the men")
    assert runs[0]["word_phoneme_error_rate"] < 0.6


def test_training_refuses_a_missing_or_tiny_corpus(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="does not exist"):
        train_letters(tmp_path / "none.txt", tmp_path / "out")
    pytest.importorskip("phonemizer")
    (tmp_path / "few.txt").write_text("Too few words.", "utf-8")
    with pytest.raises(CorpusError, match="different words"):
        train_letters(tmp_path / "few.txt", tmp_path / "out")
    assert not (tmp_path / "out").exists()
