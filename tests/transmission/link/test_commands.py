"""`transmit`, `send` and `receive` as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from tiny_codecs import tiny_codec, voice
from tiny_streams import tiny_table
from typer.testing import CliRunner, Result

from speechlm.cli import app
from speechlm.tokenizer.audio import read_audio

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
    """A tiny codec, a table for it, and a recording at another rate."""
    folder = tmp_path_factory.mktemp("link")
    codec = tiny_codec()
    codec.save_pretrained(folder / "codec")
    tiny_table(codec.identity, 3).save(folder / "table.safetensors")
    soundfile.write(folder / "speech.wav", voice(int(1.5 * 22_050)).numpy(), 22_050)
    return folder


def test_a_recording_is_transmitted(folder: Path, tmp_path: Path) -> None:
    codec, speech = ("--codec", folder / "codec"), folder / "speech.wav"
    clean, lossy, again = (tmp_path / f"{name}.wav" for name in ("clean", "lossy", "again"))
    said = call("transmit", speech, clean, "--loss", 0, *codec).stdout
    assert " 0 lost" in said and "latency 140 ms" in said
    call("encode", speech, tmp_path / "a.codes", *codec)
    call("decode", tmp_path / "a.codes", tmp_path / "own.wav", *codec)
    own = read_audio(tmp_path / "own.wav", RATE)
    assert torch.equal(read_audio(clean, RATE), own)
    draw = ("--loss", 0.4, "--seed", 3)
    call("transmit", speech, lossy, *draw, *codec)
    call("transmit", speech, again, *draw, *codec)
    assert lossy.read_bytes() == again.read_bytes() != clean.read_bytes()
    assert len(read_audio(lossy, RATE)) == len(own)


def test_options_reach_the_link(folder: Path, tmp_path: Path) -> None:
    arguments = ("transmit", folder / "speech.wav", tmp_path / "a.wav", "--codec", folder / "codec")
    faults = ("--jitter", 0.02, "--reorder", 0.2, "--duplicate", 0.3)
    profile = tmp_path / "mine.json"
    profile.write_text('{"chunk_frames": 1, "base_offsets": [1], "delay_frames": null}')
    told = json.loads(
        call(*arguments, "--json", "--loss", "wlan", *faults, "--profile", profile).stdout
    )
    assert told["latency"]["algorithmic"] == pytest.approx(0.08)
    assert told["duplicate"] > 0 and told["received"] > 40
    table = ("--table", folder / "table.safetensors", "--json", "--loss", 0)
    rates = [json.loads(call(*arguments, *more).stdout) for more in (table, table[2:])]
    assert rates[0]["payload_bits_per_second"] < rates[1]["payload_bits_per_second"]
    silent = call(*arguments, "--conceal", "silence", "--loss", 1)
    assert not read_audio(tmp_path / "a.wav", RATE).any() and "0 packets" in silent.stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--loss", "much"), "much"),
        (("--profile", "fastest"), "fastest"),
        (("--model", "nowhere"), "nowhere"),
    ],
)
def test_mistakes_are_named_in_one_sentence(
    arguments: tuple, word: str, folder: Path, tmp_path: Path
) -> None:
    codec = ("--codec", folder / "codec")
    out = tmp_path / "a.wav"
    said = call("transmit", folder / "speech.wav", out, *arguments, *codec, fails=True).stderr
    assert said.startswith("speechlm: ") and said.count("\n") == 1 and word in said
    assert not out.exists()


def test_addresses_and_ports_are_checked(folder: Path, tmp_path: Path) -> None:
    codec = ("--codec", folder / "codec")
    assert "HOST:PORT" in call("send", folder / "speech.wav", "5004", *codec, fails=True).stderr
    assert "mp3" in call("receive", tmp_path / "a.mp3", *codec, fails=True).stderr
    nothing = call("receive", tmp_path / "a.wav", "--wait", 0.1, *codec)
    assert "0 packets in time" in nothing.stdout


def test_two_processes_talk(folder: Path, tmp_path: Path) -> None:
    """`receive` on a free port in a process of its own, `send` in this one."""
    out, log = tmp_path / "heard.wav", tmp_path / "log.jsonl"
    command = [sys.executable, "-m", "speechlm", "receive", out, "--log", log, "--speed", 2]
    options = ["--codec", folder / "codec", "--session", 5]
    with subprocess.Popen(
        list(map(str, command + options)), stdout=subprocess.PIPE, text=True
    ) as process:
        port = process.stdout.readline().split()[-1]
        faults = ("--loss", 0.1, "--seed", 2, "--duplicate", 0.2, "--adapt", "--speed", 2)
        said = call(
            "send", folder / "speech.wav", f"127.0.0.1:{port}", "--repeat", 2, *faults, *options
        ).stdout
        told, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "3.00 s" in said and "packets" in told and " 0 foreign" in told
    heard = read_audio(out, RATE)
    assert len(heard) >= 2.5 * RATE and heard.any()
    last = json.loads(log.read_text().splitlines()[-1])
    assert last["statistics"]["received"] > 40 and last["sample_0_heard_at"] > 0
