"""`compress`, `decompress`, `info` and `static-table` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
import torch
from tiny_codecs import tiny_codec, voice
from tiny_streams import tiny_table, walk, written
from tiny_transmission import fine_model
from torch import Tensor
from typer.testing import CliRunner, Result

from speechlm.cli import app
from speechlm.tokenizer.audio import read_audio
from speechlm.transmission.integer_quantize import quantize
from speechlm.transmission.symbol_model import UniformModel

RATE = 16_000


def call(*arguments: object, fails: bool = False) -> Result:
    """Run a command; whatever it did not catch is a traceback in a user's face."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert bool(result.exit_code) == fails, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny codec, a static table for it, and a recording of two seconds and a bit at another rate."""
    folder = tmp_path_factory.mktemp("transmission")
    codec = tiny_codec()
    codec.save_pretrained(folder / "codec")
    tiny_table(codec.identity, 6).save(folder / "table.safetensors")
    soundfile.write(folder / "speech.wav", voice(int(2.2 * 22_050)).numpy(), 22_050)
    return folder


def test_a_recording_comes_back_with_its_length(folder: Path, tmp_path: Path) -> None:
    lmc, out, codec = tmp_path / "a.lmc", tmp_path / "a.wav", ("--codec", folder / "codec")
    model = ("--model", folder / "table.safetensors")
    said = call("compress", folder / "speech.wav", lmc, *codec, *model)
    assert f"{lmc.stat().st_size} bytes" in said.stdout and "600 without" in said.stdout
    assert "2.20 s" in call("decompress", lmc, out, *codec, *model).stdout
    assert len(read_audio(out, RATE)) == round(2.2 * RATE)
    assert "entropy model static" in call("decompress", lmc, out, *codec, fails=True).stderr


@pytest.mark.parametrize(("options", "books"), [((), 3), (("--bitrate", 800), 4), (("--raw",), 3)])
def test_a_bit_rate_chooses_the_books(
    options: tuple, books: int, folder: Path, tmp_path: Path
) -> None:
    lmc, codec = tmp_path / "a.lmc", ("--codec", folder / "codec")
    said = call("compress", folder / "speech.wav", lmc, *codec, *options)
    assert ("static-table" in said.stderr) == ("--raw" not in options)
    told = json.loads(call("info", lmc, "--json").stdout)
    assert told["header"]["num_books"] == books and told["num_samples"] == round(2.2 * RATE)
    assert told["bits_per_second"] == pytest.approx(8 * lmc.stat().st_size / 2.2, rel=1e-3)


def test_damage_is_told_and_the_rest_is_heard(folder: Path, tmp_path: Path) -> None:
    lmc, out, codec = tmp_path / "a.lmc", tmp_path / "a.wav", ("--codec", folder / "codec")
    call("compress", folder / "speech.wav", lmc, *codec, "--raw")
    assert "damage     none" in call("info", lmc).stdout
    bad = bytearray(lmc.read_bytes())
    bad[90] ^= 1
    lmc.write_bytes(bad)
    told = call("info", lmc, fails=True)
    assert told.exit_code == 3 and "chunk 0 is missing" in told.stdout
    said = call("decompress", lmc, out, *codec, fails=True)
    assert said.exit_code == 3 and "chunk 0 is missing, 1.00 s" in said.stderr
    assert "1.00 s are concealed, 0.00 s left out" in said.stderr.splitlines()[-1]
    heard = read_audio(out, RATE)
    assert len(heard) == round(2.2 * RATE)
    assert not heard[: RATE // 2].any() and heard[RATE + 3200 :].any()


def test_an_end_that_is_cut_off_is_told_in_seconds_and_by_the_exit_status(
    folder: Path, tmp_path: Path
) -> None:
    lmc, out, codec = tmp_path / "a.lmc", tmp_path / "a.wav", ("--codec", folder / "codec")
    call("compress", folder / "speech.wav", lmc, *codec, "--raw")
    assert call("decompress", lmc, out, *codec).stderr == ""
    whole, data = read_audio(out, RATE), lmc.read_bytes()
    lmc.write_bytes(data[: int(0.7 * len(data))])
    said = call("decompress", lmc, out, *codec, fails=True)
    assert said.exit_code == 3
    assert "breaks off" in said.stderr and "chunks 1 to 2 are missing, 1.20 s" in said.stderr
    assert "0.00 s are concealed, 1.20 s left out" in said.stderr.splitlines()[-1]
    assert len(read_audio(out, RATE)) == RATE and f"{out}: 1.00 s" in said.stdout
    lmc.write_bytes(
        data[:-5]
    )  # the end record alone: all of the sound is there, but not as it was sent
    said = call("decompress", lmc, out, *codec, fails=True)
    assert said.exit_code == 3 and "no chunk is missing" in said.stderr
    assert torch.equal(read_audio(out, RATE), whole)


def test_the_fine_model_that_ships_is_played_unless_told_otherwise(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = tiny_codec().identity
    quantize(fine_model(codec=identity)).save(tmp_path / "fine")
    codec = ("--codec", folder / "codec")

    def heard(lmc: Path, *options: object) -> Tensor:
        call("decompress", lmc, tmp_path / "a.wav", *codec, *options)
        return read_audio(tmp_path / "a.wav", RATE)

    base, more = tmp_path / "base.lmc", tmp_path / "more.lmc"
    call("compress", folder / "speech.wav", base, *codec, "--raw")
    call("compress", folder / "speech.wav", more, *codec, "--raw", "--bitrate", 800)
    sent_only = heard(base)
    filled = heard(base, "--fine", tmp_path / "fine")
    assert not torch.equal(sent_only, filled)
    four = heard(more)
    monkeypatch.setattr("speechlm.transmission.models.WEIGHTS", tmp_path)
    assert torch.equal(heard(base), filled)
    assert torch.equal(heard(base, "--start", 0.5), filled[RATE // 2 :])
    assert torch.equal(heard(base, "--sent-only"), sent_only)
    assert torch.equal(heard(more), four)  # it is for three books
    both = ("--sent-only", "--fine", tmp_path / "fine")
    assert call("decompress", base, tmp_path / "a.wav", *codec, *both, fails=True).exit_code == 2


def test_a_table_is_learned_from_a_token_dataset(tmp_path: Path) -> None:
    tokens = Path(__file__).parents[1] / "assets" / "tokens-format-2"
    out = tmp_path / "table.safetensors"
    said = call("static-table", tokens, out, "--num-classes", 2)
    assert out.is_file() and "tables" in said.stdout


def test_mistakes_are_named_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    recording, lmc, codec = folder / "speech.wav", tmp_path / "a.lmc", ("--codec", folder / "codec")
    assert "does not exist" in call("info", lmc, fails=True).stderr
    assert "600" in call("compress", recording, lmc, *codec, "--bitrate", 500, fails=True).stderr
    model = ("--model", folder / "table.safetensors", "--raw")
    assert call("compress", recording, lmc, *codec, *model, fails=True).exit_code == 2
    lmc.write_bytes(b"no stream")
    for line in (
        call("info", lmc, fails=True).stderr,
        call("decompress", lmc, tmp_path / "a.wav", *codec, fails=True).stderr,
    ):
        assert line.startswith("speechlm: ") and line.count("\n") == 1
    lmc.write_bytes(written(walk(5), UniformModel(3, 16)))
    another = call("decompress", lmc, tmp_path / "a.wav", *codec, fails=True)
    assert "codec tiny" in another.stderr
