"""Which ways there are follows from the models; each plays what its stream and its model say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_codecs import voice
from tiny_rates import Models, tiny_models
from tiny_streams import tiny_table
from tiny_transmission import entropy_model, fine_model

from speechlm.errors import CorruptStream, ModelMismatch
from speechlm.eval import rate_ways
from speechlm.eval.rate_ways import Sender, find_ways, model_bits, read_codes, stream_size
from speechlm.tokenizer.codes import Codes
from speechlm.transmission.integer_fine import IntegerFineModel
from speechlm.transmission.integer_quantize import quantize
from speechlm.transmission.models import load_entropy_model
from speechlm.transmission.symbol_model import UniformModel

WAVE = voice(17_000)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return tiny_models(tmp_path_factory.mktemp("models"))


def names(*found: object, **options: object) -> list[str]:
    return [way.name for way in find_ways(*found, **options)[0]]  # type: ignore[arg-type]


def test_without_models_books_are_sent_as_they_are(models: Models) -> None:
    ways, notes = find_ways(models.codec)
    assert [way.name for way in ways] == ["base books, raw", "all books, raw"]
    assert len(notes) == 3 and all("--entropy" in note or "--fine" in note for note in notes)


def test_a_table_of_the_base_books_codes_no_more(models: Models, tmp_path: Path) -> None:
    tiny_table(models.codec.identity, 3).save(tmp_path / "small.st")
    found = names(models.codec, [tmp_path / "small.st"])
    assert found == ["base books, raw", "base books, static table", "all books, raw"]
    both = names(models.codec, [tmp_path / "small.st", models.table, models.table])
    assert [name for name in both if "table" in name] == [
        "base books, static table small",
        "base books, static table table",
        "all books, static table",
    ]


def test_models_say_how_many_the_base_books_are(models: Models, tmp_path: Path) -> None:
    identity = models.codec.identity
    quantize(fine_model(codec=identity, num_base_books=4)).save(tmp_path / "fine")
    quantize(entropy_model(codec=identity, num_base_books=4)).save(tmp_path / "entropy")
    ways, _ = find_ways(models.codec, [tmp_path / "entropy"])
    assert [way.sender.model.num_books for way in ways] == [4, 4, 6]
    assert find_ways(models.codec, fine=[tmp_path / "fine"])[0][-1].sender.model.num_books == 4
    with pytest.raises(ModelMismatch, match="read 3, 4 base books"):
        find_ways(models.codec, fine=[tmp_path / "fine", models.fine])
    with pytest.raises(ModelMismatch, match="codes 3 books, 4 are the base books"):
        find_ways(models.codec, [models.entropy], [tmp_path / "fine"])


def test_two_fine_models_have_names_and_the_best_coder(models: Models, tmp_path: Path) -> None:
    quantize(fine_model(1, codec=models.codec.identity)).save(tmp_path / "better")
    found = names(models.codec, [models.entropy, models.table], [models.fine, tmp_path / "better"])
    assert [name for name in found if "+" in name] == [
        f"base books, entropy model + {added} {name}"
        for name in ("fine", "better")
        for added in ("fine codes", "mean of the fine books")
    ]


def test_what_ships_is_measured_too_if_it_is_of_this_codec(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_table(models.codec.identity, 3).save(tmp_path / "static.safetensors")
    quantize(fine_model(codec=models.codec.identity)).save(tmp_path / "fine")
    quantize(entropy_model()).save(tmp_path / "entropy")  # of another codec
    monkeypatch.setattr(rate_ways, "WEIGHTS", tmp_path)
    ways, notes = find_ways(models.codec)
    assert [way.name for way in ways if "+" not in way.name] == [
        "base books, raw",
        "base books, static table",
        "all books, raw",
    ]
    assert ways[-1].name == "base books, static table + mean of the fine books"
    assert len(notes) == 1 and "entropy model" in notes[0]


def test_fine_codes_are_played_as_the_codec_decodes_them(models: Models) -> None:
    codec, fine = models.codec, IntegerFineModel.load(models.fine)
    way = next(w for w in find_ways(codec, fine=[models.fine])[0] if w.name.endswith("fine codes"))
    played = way.receiver.receive(way.sender.send(WAVE), way.sender.model)
    base = codec.tokenize([WAVE], num_books=3)
    whole: Codes = fine.complete(base, entries=codec.quantizer.codebooks)
    assert played.shape == WAVE.shape
    assert torch.allclose(played, codec.synthesize(whole)[0], atol=1e-5)
    assert not torch.allclose(played, codec.synthesize(base)[0], atol=1e-3)


def test_a_damaged_stream_is_not_scored(models: Models) -> None:
    ways, _ = find_ways(models.codec, [models.table], [models.fine])
    for way in ways:
        stream = bytearray(way.sender.send(WAVE))
        stream[90] ^= 1
        with pytest.raises(CorruptStream, match="damaged"):
            way.receiver.receive(bytes(stream), way.sender.model)


def test_a_stream_is_counted_chunk_by_chunk(models: Models) -> None:
    raw = Sender(models.codec, UniformModel(3, 16), "raw", chunk_frames=20)
    size = stream_size(raw.send(WAVE))  # 54 frames of 12 bits
    assert size.payload_bits == (240, 240, 168)
    assert size.num_raw_chunks == 3 and size.num_bytes == len(raw.send(WAVE))
    assert raw.latency_seconds == pytest.approx(models.codec.config.latency_seconds + 0.4)


def test_the_model_begins_anew_with_every_chunk(models: Models) -> None:
    table = load_entropy_model(models.table, num_books=3)
    raw = UniformModel(3, 16)
    stream = Sender(models.codec, raw, "raw").send(WAVE)
    codes = torch.cat([piece.codes for piece in read_codes(stream, raw)], 1).numpy()
    parts = [model_bits(codes[:, i : i + 20], table, 20)[0] for i in (0, 20, 40)]
    assert model_bits(codes, table, 20) == parts
    assert sum(parts) != sum(
        model_bits(codes, table, 255)
    )  # which has a past where these have none
    assert model_bits(codes, raw, 20) == pytest.approx([240, 240, 168])
    assert model_bits(np.zeros((3, 0), dtype=np.int64), raw, 20) == []
