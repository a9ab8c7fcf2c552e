"""SentencePiece with the specials of the symbol table."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_language import IDENTITY, ar_model, voice_of
from transformers import AutoModel

from speechlm.errors import ConfigError, CorruptWeights, ModelMismatch, UnsupportedText
from speechlm.slm import text as text_module
from speechlm.slm.autoregressive import AutoregressiveModel
from speechlm.slm.config import AutoregressiveConfig
from speechlm.slm.generate import generate_codes
from speechlm.slm.length import LONGEST_SECONDS_PER_SYMBOL
from speechlm.slm.pieces import FILE_NAME, PieceTokenizer
from speechlm.slm.text import BOUNDARY, NO_TEXT, PAD, SPECIALS
from speechlm.tokenizer.model_folder import load_model, save_model

# English enough to learn from, and always there.
LINES = [line.strip() for line in inspect.getsource(text_module).splitlines() if line.strip()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pieces")


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PieceTokenizer:
    return PieceTokenizer.train(LINES, folder / FILE_NAME, vocab_size=700)


def test_known_text_comes_back_from_fewer_ids_than_letters(tokenizer: PieceTokenizer) -> None:
    ids = tokenizer.encode(LINES[0])
    assert ids[0] == ids[-1] == BOUNDARY
    assert not {PAD, BOUNDARY, NO_TEXT} & set(ids[1:-1])
    assert len(ids) < len(LINES[0]) // 2
    assert tokenizer.decode(ids) == LINES[0]


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_bytes_carry_what_training_never_saw(folder: Path, model_type: str) -> None:
    other = PieceTokenizer.train(LINES, folder / "other.model", 500, model_type)  # type: ignore[arg-type]
    text = "Żółw 😀 日本, naïve"
    ids = other.encode(text)
    assert 3 not in ids  # the unknown id
    assert max(ids) < other.size == 500
    assert other.decode(ids) == text


@given(
    st.text(
        st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=30
    )
)
def test_any_text_of_visible_characters_comes_back(tokenizer: PieceTokenizer, text: str) -> None:
    if "▁" in text or not text.strip():  # sentencepiece's own sign for a blank
        return
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_training_repeats_and_a_saved_model_gives_the_same_ids(
    tokenizer: PieceTokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path)
    again = PieceTokenizer.train(LINES, tmp_path / "again.model", vocab_size=700)
    for loaded in (PieceTokenizer.load(tmp_path), PieceTokenizer.load(tmp_path / FILE_NAME), again):
        assert [loaded.encode(line) for line in LINES] == [tokenizer.encode(line) for line in LINES]


def test_a_size_that_the_text_cannot_fill_is_refused(tmp_path: Path) -> None:
    for size in (50, 100_000):
        with pytest.raises(ConfigError, match=str(size)):
            PieceTokenizer.train(LINES, tmp_path / "x.model", size)
    with pytest.raises(UnsupportedText):
        PieceTokenizer.train([" "], tmp_path / "x.model")
    assert not list(tmp_path.iterdir())


def test_broken_or_foreign_models_are_refused(tokenizer: PieceTokenizer, tmp_path: Path) -> None:
    with pytest.raises(CorruptWeights, match="missing"):
        PieceTokenizer.load(tmp_path)
    for content in (b"", b"junk" * 20):
        (tmp_path / FILE_NAME).write_bytes(content)
        with pytest.raises(CorruptWeights, match=FILE_NAME):
            PieceTokenizer.load(tmp_path)


def test_empty_text_and_foreign_ids_are_refused(tokenizer: PieceTokenizer) -> None:
    with pytest.raises(UnsupportedText):
        tokenizer.encode("  ")
    with pytest.raises(UnsupportedText):
        tokenizer.decode([tokenizer.size])


def model_of(tokenizer: PieceTokenizer, **changes: object) -> AutoregressiveModel:
    sizes = {"num_pieces": tokenizer.size, "text_model_bytes": len(tokenizer.model)}
    model = ar_model(symbols=None, alignment="prefix", **(sizes | changes))
    model.take_pieces(tokenizer)
    return model


def test_the_weights_of_a_model_hold_its_pieces(tokenizer: PieceTokenizer, tmp_path: Path) -> None:
    model = model_of(tokenizer)
    model.save_pretrained(tmp_path / "hub")
    save_model(model, tmp_path / "half")
    for loaded in (
        AutoModel.from_pretrained(tmp_path / "hub"),
        load_model(tmp_path / "half", AutoregressiveModel),
    ):
        assert loaded.vocabulary.encode(LINES[0]) == tokenizer.encode(LINES[0])
    other = PieceTokenizer.train(LINES, tmp_path / "other.model", 500)
    with pytest.raises(ModelMismatch, match="500"):
        model.take_pieces(other)


@pytest.mark.parametrize(
    "changes",
    [
        {"symbols": [*SPECIALS, "a"]},
        {"alignment": "pointer"},
        {"text_model_bytes": 0},
        {"num_pieces": 3},
    ],
)
def test_a_configuration_of_two_minds_about_its_text_is_refused(changes: dict[str, Any]) -> None:
    sizes = {"symbols": None, "num_pieces": 500, "text_model_bytes": 9, "alignment": "prefix"}
    with pytest.raises(ConfigError):
        AutoregressiveConfig.for_codec(IDENTITY, **(sizes | changes))


def test_a_long_piece_has_the_time_of_its_letters(tokenizer: PieceTokenizer) -> None:
    """One piece may be a long word: a cap by the number of pieces would cut it off."""
    model = model_of(tokenizer)
    torch.nn.init.constant_(model.heads[0].logits.bias[-1:], -1e9)  # it never ends by itself
    word = max((tokenizer.decode([i]).strip() for i in range(4, tokenizer.size)), key=len)
    ids = torch.tensor(tokenizer.encode(word))
    assert len(ids) == 3 and len(word) > 5
    spoken = generate_codes(model, None, ids, voice_of(1))
    assert spoken.finish_reason == "length"
    seconds = spoken.codes.shape[1] / IDENTITY.frame_rate_hz
    assert seconds == pytest.approx(LONGEST_SECONDS_PER_SYMBOL * len(word), abs=0.02)
