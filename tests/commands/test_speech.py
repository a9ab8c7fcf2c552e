"""`say` and `voice` as a user meets them, with a speaker too small to sound like anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from tiny_codecs import tiny_codec, voice
from typer.testing import CliRunner, Result

from speechlm import Line, load_voice, read_audio
from speechlm.cli import app
from speechlm.slm.autoregressive import AutoregressiveModel
from speechlm.slm.config import AutoregressiveConfig
from speechlm.slm.speak import Speaker
from speechlm.slm.text import SPECIALS

RATE = 16_000
LETTERS = "abcdefghijklmnopqrstuvwxyz ,.!?"


class Letters:
    """A front end without a dictionary: letters are the phonemes."""

    note = None

    def phonemize(self, text: str) -> str:
        return text.lower()


class Hears:
    """A recognizer that always hears the same."""

    words = "abc defghij"

    def transcribe(self, waveform: torch.Tensor, sampling_rate: int) -> str:
        return self.words


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    codec = tiny_codec()
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "ffn_size": 32}
    config = AutoregressiveConfig.for_codec(
        codec.identity,
        symbols=[*SPECIALS, *LETTERS],
        ar_books=6,
        max_frames_per_symbol=5,
        **sizes,
    )
    return Speaker(codec, AutoregressiveModel(config), None, Letters())


@pytest.fixture(autouse=True)
def loads(speaker: Speaker, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every load of a speaker gives the tiny one; the list tells how each was asked for."""
    asked: list[dict[str, Any]] = []

    def from_pretrained(folder: Path | None = None, **options: Any) -> Speaker:
        asked.append(options)
        return speaker

    monkeypatch.setattr(Speaker, "from_pretrained", from_pretrained)
    return asked


@pytest.fixture
def prompt(tmp_path: Path) -> Path:
    path = tmp_path / "prompt.wav"
    soundfile.write(path, voice(2 * RATE + 1600).numpy(), RATE)
    return path


def call(*arguments: object) -> Result:
    """Run a command; whatever it did not catch is a traceback in a user's face."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def listing(folder: Path, *rows: object) -> Path:
    path = folder / "list.jsonl"
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_lines_have_prompts_seeds_and_places_of_their_own(
    speaker: Speaker, prompt: Path, tmp_path: Path
) -> None:
    assert call("voice", prompt, tmp_path / "mine.safetensors").exit_code == 0
    made = listing(
        tmp_path,
        {"text": "Hello.", "prompt": "prompt.wav", "seed": 3, "out": "a/one.flac"},
        {"text": "Hello.", "voice": "mine.safetensors", "seed": 4},
        {"text": "Hello."},
    )
    out = tmp_path / "out"
    done = call("say", "--list", made, "--out", out, "--prompt", prompt, "--seed", 3)
    assert done.exit_code == 0 and len(done.stdout.splitlines()) == 3
    for name, seed in (("a/one.flac", 3), ("0002.wav", 4), ("0003.wav", 3)):
        wanted = speaker.say("Hello.", prompt, seed=seed).waveform
        assert torch.allclose(read_audio(out / name, RATE), wanted, atol=1e-4)


@pytest.mark.parametrize("kind", ["text", "voice", "option"])
def test_what_a_header_tells_is_told_before_models_are_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Speaker, "from_pretrained", lambda *_, **__: pytest.fail("models read"))
    file = tmp_path / ("p.safetensors" if kind == "voice" else "p.txt")
    file.write_text("no sound")
    options = ("--top-p", 3) if kind == "option" else ("--prompt", file)
    done = call("say", "Hello.", *options, "--out", tmp_path / "out.wav")
    assert done.exit_code == 1
    assert ("top_p" if kind == "option" else str(file)) in done.stderr
    if kind != "option":
        assert call("voice", file, tmp_path / "v.safetensors").exit_code == 1


def test_bad_lines_are_named_and_the_others_written(prompt: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("in the way")
    made = listing(
        tmp_path,
        {"text": "Hello."},
        "{no json",
        {"text": "...", "prompt": "prompt.wav"},
        {"text": "Hello.", "prompt": "nobody"},
        {"text": "Hello.", "out": "file/a.wav"},
        {"text": "Who is it?"},
    )
    done = call("say", "--list", made, "--out", tmp_path / "out", "--prompt", prompt)
    assert done.exit_code == 1
    told = done.stderr.splitlines()
    for number, line in zip((2, 3, 4, 5), told, strict=False):
        assert line.startswith("speechlm: ") and f"list.jsonl line {number}" in line
    assert told[4:] == ["speechlm: 4 lines were not spoken; the others, if any, are written."]
    written = [path.name for path in sorted((tmp_path / "out").glob("*.wav"))]
    assert written == ["0001.wav", "0006.wav"]


def test_a_list_is_resumed_only_if_asked(
    prompt: Path, tmp_path: Path, loads: list[dict[str, Any]]
) -> None:
    made = listing(tmp_path, {"text": "Hello."}, {"text": "Who is it?"})
    arguments = ("say", "--list", made, "--out", tmp_path / "out", "--prompt", prompt)
    assert call(*arguments).exit_code == 0
    first, second = (tmp_path / "out" / name for name in ("0001.wav", "0002.wav"))
    wanted = second.read_bytes()
    first.write_bytes(b"mine")
    second.unlink()
    assert "1 of 2" in call(*arguments, "--resume").stdout
    assert first.read_bytes() == b"mine" and second.read_bytes() == wanted
    asked = len(loads)
    assert call(*arguments, "--resume").exit_code == 0
    assert len(loads) == asked  # nothing to speak, nothing to load
    assert call(*arguments).exit_code == 0
    assert first.read_bytes() != b"mine"
    assert call("say", "Hello.", "--resume", "--out", tmp_path / "a.wav").exit_code == 2


def test_a_place_that_cannot_be_written_is_refused_before_a_word_is_spoken(
    prompt: Path, tmp_path: Path, loads: list[dict[str, Any]]
) -> None:
    for out, told in ((tmp_path / "a.xyz", "use one of"), (tmp_path / "no" / "a.wav", "folder")):
        for more in ([], ["--stream"]):
            refused = call("say", "Hello.", "--prompt", prompt, "--out", out, *more)
            assert refused.exit_code == 1 and told in refused.stderr
    assert not loads


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3"])
def test_a_stream_is_written_in_every_format(prompt: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"a.{suffix}"
    done = call("say", "Hello there.", "--prompt", prompt, "--stream", "--out", out)
    assert done.exit_code == 0 and "the first after" in done.stdout
    assert len(read_audio(out, RATE)) > RATE // 10


@pytest.mark.parametrize("more", [[], ["--stream"]])
def test_a_short_prompt_is_told_once(tmp_path: Path, more: list[str]) -> None:
    short = tmp_path / "short.wav"
    soundfile.write(short, voice(RATE * 6 // 5).numpy(), RATE)
    done = call("say", "Hello.", "--prompt", short, "--out", tmp_path / "a.wav", *more)
    assert done.exit_code == 0 and done.stderr.count("s of speech") == 1


def test_the_precision_is_passed_on(
    prompt: Path, tmp_path: Path, loads: list[dict[str, Any]]
) -> None:
    made = listing(tmp_path, {"text": "Hello."})
    text = ("say", "Hello.", "--prompt", prompt, "--out", tmp_path / "a.wav")
    for arguments, wanted in (
        (text, "auto"),
        ((*text, "--precision", "bf16"), "bf16"),
        ((*text, "--candidates", 2), "fp32"),
        (("say", "--list", made, "--prompt", prompt, "--out", tmp_path / "out"), "fp32"),
    ):
        assert call(*arguments).exit_code == 0
        assert loads[-1]["precision"] == wanted
    assert call(*text, "--precision", "int4").exit_code == 2


def test_the_longest_pause_is_passed_on(
    speaker: Speaker, prompt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def say_many(lines: Any, **options: Any) -> Any:
        given.update(options)
        return Speaker.say_many(speaker, lines, **options)

    monkeypatch.setattr(speaker, "say_many", say_many)
    arguments = ("say", "Hello.", "--prompt", prompt, "--out", tmp_path / "a.wav")
    assert call(*arguments, "--max-silence", 0.3).exit_code == 0
    assert given["max_silence_seconds"] == 0.3
    refused = call(*arguments, "--max-silence", 99)
    assert refused.exit_code == 1 and "max_silence_seconds is 99" in refused.stderr


def test_a_prompt_is_heard_only_if_asked(
    speaker: Speaker, prompt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speechlm.slm.transcribe.WhisperTranscriber.load", lambda folder: Hears())
    recognizer = ("--recognizer", tmp_path)
    soundfile.write(prompt, voice(RATE // 2 + 1600).numpy(), RATE)  # as long as the words
    made, plain = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    heard = call("voice", prompt, made, "--transcribe", *recognizer)
    assert heard.exit_code == 0 and "Heard in the prompt: 'abc defghij'" in heard.stderr
    assert load_voice(made).symbols.tolist() == speaker.encode("abc defghij").tolist()
    told = call("voice", prompt, plain).stderr
    assert "Heard" not in told and "holds 0.6 s of speech" in told
    assert len(load_voice(plain).symbols) == 1

    wanted = {}
    for name, used in (("with", made), ("without", plain)):
        wanted[name] = speaker.say("Hello there.", load_voice(used), seed=1).waveform
    say = ("say", "Hello there.", "--prompt", prompt, "--seed", 1, "--out", tmp_path / "a.wav")
    for more in ([], ["--stream"]):
        for name, options in (("with", ["--transcribe", *recognizer]), ("without", [])):
            assert call(*say, *options, *more).exit_code == 0
            spoken = read_audio(tmp_path / "a.wav", RATE)
            assert torch.allclose(spoken, wanted[name], atol=1e-4)


def test_what_is_misheard_is_left_out_and_told(
    prompt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speechlm.slm.transcribe.WhisperTranscriber.load", lambda folder: Hears())
    monkeypatch.setattr(Hears, "words", "far too much for half a second " * 20)
    done = call("voice", prompt, tmp_path / "a.safetensors", "--recognizer", tmp_path)
    assert done.exit_code == 0 and "left out" in done.stderr
    assert len(load_voice(tmp_path / "a.safetensors").symbols) == 1


def test_no_recognizer_is_one_sentence(
    prompt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speechlm.eval.recognizer._package_folder", lambda name: None)
    arguments = ("say", "Hello.", "--prompt", prompt, "--out", tmp_path / "a.wav")
    refused = call(*arguments, "--transcribe")
    assert refused.exit_code == 1 and "--recognizer" in refused.stderr
    refused = call(*arguments, "--recognizer", tmp_path)
    assert refused.exit_code == 1 and len(refused.stderr.splitlines()) == 1


def test_symbols_are_left_out_and_named_in_one_line(
    speaker: Speaker, prompt: Path, tmp_path: Path
) -> None:
    done = call("say", "Hello 😀 you → 😀.", "--prompt", prompt, "-o", tmp_path / "a.wav")
    assert done.exit_code == 0
    told = [line for line in done.stderr.splitlines() if "Left out" in line]
    assert len(told) == 1 and "😀" in told[0] and "→" in told[0]
    wanted = speaker.say("Hello you.", prompt).waveform
    assert torch.allclose(read_audio(tmp_path / "a.wav", RATE), wanted, atol=1e-4)
    streamed = call(
        "say", "Hello 😀 you.", "--prompt", prompt, "-o", tmp_path / "s.wav", "--stream"
    )
    assert streamed.exit_code == 0 and streamed.stderr.count("Left out") == 1


def test_symbols_are_left_out_line_by_line(prompt: Path, tmp_path: Path) -> None:
    rows = [{"text": "Hello ☃."}, {"text": "Hello."}, {"text": "☃"}, {"text": "You ☃!"}]
    made = listing(tmp_path, *rows)
    done = call("say", "--list", made, "--out", tmp_path / "out", "--prompt", prompt)
    assert done.exit_code == 1 and len(done.stdout.splitlines()) == 3
    first, third, fourth, _ = done.stderr.splitlines()
    assert "line 1: Left out" in first and "line 4: Left out" in fourth
    assert "line 3: There is nothing to speak" in third


def test_who_speaks_by_python_finds_the_symbols_in_the_notes(
    speaker: Speaker, prompt: Path
) -> None:
    plain, marked = speaker.say_many([Line("Hello.", prompt), Line("Hello ☃.", prompt)])
    assert plain.notes == [] and "snowman" in marked.notes[0]
    assert torch.equal(plain.waveform, marked.waveform)
