"""The commands as a user meets them: real files in, files out, one sentence for each mistake."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner, Result

from speechlm.cli import app
from speechlm.tokenizer.audio import read_audio
from speechlm.tokenizer.codec import CodecModel
from speechlm.tokenizer.codes import CodecIdentity, Codes
from speechlm.tokenizer.config import CodecConfig

RATE = 16_000
COMMANDS = ["prepare", "tokenize", "encode", "decode", "train", "export", "say", "eval", "demo"]


def call(*arguments: object) -> Result:
    """Run a command; whatever it did not catch is a traceback in a user's face."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def refusal(*arguments: object) -> str:
    """Run a command that must fail, and return its one sentence."""
    result = call(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("speechlm: ") and lines[0].endswith(".")
    return lines[0]


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a codec too small to sound like anything."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("codec")
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "head_layers": 1}
    widths = {"encoder_width": 16, "decoder_width": 16, "head_width": 16, "latent_size": 12}
    CodecModel(CodecConfig(codebook_size=16, **sizes, **widths)).save_pretrained(folder)
    return folder


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """One second in stereo at another rate than the codec's."""
    path = tmp_path / "tone.wav"
    tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(22_050) / 22_050)
    soundfile.write(path, np.stack([tone, tone], axis=1), 22_050)
    return path


def test_help_lists_the_road_in_order() -> None:
    listed = call("--help").stdout.split("Commands:")[1]
    positions = [listed.index(f"  {name} ") for name in COMMANDS[:-1]]
    assert positions == sorted(positions)
    assert "demo" not in listed


@pytest.mark.parametrize("command", [*COMMANDS, "eval codec", "eval tts"])
def test_each_command_explains_itself(command: str) -> None:
    result = call(*command.split(), "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        "speak",
        "encode",
        "encode a.wav",
        "train vocoder a.yaml",
        "encode a.wav a.codes --num-books none",
        "encode a.wav a.codes --num-books 0",
        "say hello --colour red",
        "eval accent a b",
    ],
)
def test_wrong_usage_exits_with_2(arguments: str) -> None:
    assert call(*arguments.split()).exit_code == 2


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".opus"])
def test_encode_then_decode_keeps_the_duration(
    suffix: str, recording: Path, codec: Path, tmp_path: Path
) -> None:
    codes, out = tmp_path / "tone.codes", tmp_path / f"out{suffix}"
    assert call("encode", recording, codes, "--codec", codec).exit_code == 0
    assert call("decode", codes, out, "--codec", codec).exit_code == 0
    assert Codes.load(codes).num_samples.tolist() == [RATE]
    # lossy formats pad to whole blocks
    assert abs(len(read_audio(out, RATE)) - RATE) <= (0 if suffix in (".wav", ".flac") else 2000)


def test_number_of_books_is_an_option(recording: Path, codec: Path, tmp_path: Path) -> None:
    codes = tmp_path / "tone.codes"
    assert call("encode", recording, codes, "--codec", codec, "--num-books", 4).exit_code == 0
    assert Codes.load(codes).values.shape[:2] == (1, 4)


def _write_bad_recording(kind: str, path: Path) -> None:
    samples = {"without samples": np.zeros(0), "not finite": np.full(RATE, np.nan)}
    if kind in samples:
        soundfile.write(path, samples[kind].astype(np.float32), RATE, subtype="FLOAT")
    elif kind != "missing":
        path.write_text("" if kind == "empty" else "These are words.\n")


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("missing", "does not exist"),
        ("empty", "empty file"),
        ("text", "not audio"),
        ("without samples", "no samples"),
        ("not finite", "NaN"),
    ],
)
def test_encode_refuses_what_is_no_recording(
    kind: str, word: str, codec: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bad.wav"
    _write_bad_recording(kind, path)
    sentence = refusal("encode", path, tmp_path / "bad.codes", "--codec", codec)
    assert word in sentence and "bad.wav" in sentence
    assert not (tmp_path / "bad.codes").exists()


def test_decode_refuses_codes_of_another_codec(codec: Path, tmp_path: Path) -> None:
    identity = CodecIdentity("other", "0" * 16, RATE, 320, 16, 6, 3)
    codes = Codes(torch.zeros(1, 6, 5, dtype=torch.int64), torch.tensor([1600]), identity)
    codes.save(tmp_path / "other.codes")
    sentence = refusal("decode", tmp_path / "other.codes", tmp_path / "a.wav", "--codec", codec)
    assert "codec other" in sentence


def test_decode_refuses_a_file_cut_in_half(recording: Path, codec: Path, tmp_path: Path) -> None:
    codes = tmp_path / "tone.codes"
    call("encode", recording, codes, "--codec", codec)
    codes.write_bytes(codes.read_bytes()[: codes.stat().st_size // 2])
    assert "tone.codes" in refusal("decode", codes, tmp_path / "a.wav", "--codec", codec)


@pytest.mark.parametrize("items", [0, 2])
def test_decode_takes_one_utterance(items: int, codec: Path, tmp_path: Path) -> None:
    identity = CodecIdentity("any", "0" * 16, RATE, 320, 16, 6, 3)
    values = torch.zeros(items, 6, 5, dtype=torch.int64)
    Codes(values, torch.full((items,), 1600), identity).save(tmp_path / "some.codes")
    sentence = refusal("decode", tmp_path / "some.codes", tmp_path / "a.wav", "--codec", codec)
    assert f"{items} utterances" in sentence


def test_a_missing_codec_folder_is_named(recording: Path, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    assert "nowhere" in refusal("encode", recording, tmp_path / "a.codes", "--codec", missing)


def test_a_missing_output_folder_is_named(recording: Path, codec: Path, tmp_path: Path) -> None:
    out = tmp_path / "nowhere" / "a.codes"
    assert "nowhere" in refusal("encode", recording, out, "--codec", codec)


def test_prepare_refuses_a_corpus_that_is_not_there(tmp_path: Path) -> None:
    assert "nowhere" in refusal("prepare", tmp_path / "nowhere", tmp_path / "out")


def test_say_names_the_shipped_voices_for_an_unknown_prompt(tmp_path: Path) -> None:
    sentence = refusal("say", "Hello.", "--prompt", "nobody", "--out", tmp_path / "a.wav")
    assert "nobody" in sentence and "shipped voice" in sentence


def test_say_refuses_an_empty_text(recording: Path, tmp_path: Path) -> None:
    sentence = refusal("say", " ", "--prompt", recording, "--out", tmp_path / "a.wav")
    assert "text" in sentence.lower()


def test_train_refuses_an_unknown_key(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("colour: red\n")
    assert "colour" in refusal("train", "codec", recipe, "--run", tmp_path / "run")


def test_the_process_ends_with_the_exit_code_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "speechlm", "prepare", str(tmp_path / "nowhere"), "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("speechlm: ") and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_an_hour_goes_through_in_a_gigabyte_and_a_half(tmp_path: Path) -> None:
    """Stereo at 44.1 kHz, by command: reading, resampling, coding and writing each work in pieces."""
    recording = tmp_path / "hour.flac"
    minute = 0.1 * torch.randn(44_100 * 60, 2, generator=torch.Generator().manual_seed(0)).numpy()
    with soundfile.SoundFile(recording, "w", 44_100, 2) as file:
        for _ in range(60):
            file.write(minute)
    # not ru_maxrss, which a child inherits from the process that started it
    watched = (
        "import sys; from pathlib import Path; from speechlm.cli import app; "
        "app(sys.argv[1:], standalone_mode=False); "
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    for command, start, end in (("encode", "flac", "codes"), ("decode", "codes", "wav")):
        paths = [str(tmp_path / f"hour.{suffix}") for suffix in (start, end)]
        done = subprocess.run(
            [sys.executable, "-c", watched, command, *paths],
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(done.stdout.split()[-1]) / 1024 < 1500
    assert soundfile.info(tmp_path / "hour.wav").duration == pytest.approx(3600, abs=0.01)


def test_a_voice_is_prepared_once_and_speaks_lines_and_streams(tmp_path: Path) -> None:
    voice = tmp_path / "clara.safetensors"
    assert call("voice", "clara", voice).exit_code == 0
    listing = tmp_path / "lines.jsonl"
    listing.write_text('{"text": "One."}\n{"text": "One.", "prompt": "clara.safetensors"}\n')
    assert call("say", "--list", listing, "--out", tmp_path / "lines").exit_code == 0
    whole = read_audio(tmp_path / "lines" / "0001.wav", RATE)
    assert torch.equal(read_audio(tmp_path / "lines" / "0002.wav", RATE), whole)
    exact = ("--precision", "fp32", "-o", tmp_path / "s.wav")  # as a list is spoken
    streamed = call("say", "One.", "--prompt", voice, "--stream", *exact)
    assert "the first after" in streamed.stdout
    assert torch.equal(read_audio(tmp_path / "s.wav", RATE), whole)


@pytest.mark.parametrize("arguments", [["-o", "x.wav"], ["Hi."], ["Hi.", "--list", "l", "-o", "x"]])
def test_saying_needs_one_text_and_one_place(arguments: list[str]) -> None:
    assert call("say", *arguments).exit_code == 2


def test_a_damaged_token_dataset_is_told_by_the_exit_code(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    shutil.copytree(Path(__file__).parent / "assets" / "tokens-format-2", tokens)
    assert call("tokens", "check", tokens).exit_code == 0
    shard = tokens / "train-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-9])
    damaged = call("tokens", "check", tokens)
    assert damaged.exit_code == 1
    assert "train-00001" in damaged.stdout


def test_hard_sentences_are_drawn_for_shipped_voices(tmp_path: Path) -> None:
    out = tmp_path / "hard.jsonl"
    assert call("eval", "list", "shipped", out, "--protocol", "hard").exit_code == 0
    assert len(out.read_text(encoding="utf-8").splitlines()) == 200
    few = tmp_path / "few.jsonl"
    assert call("eval", "list", "shipped", few, "--sentences", out, "--count", 7).exit_code == 0
    assert len(few.read_text(encoding="utf-8").splitlines()) == 7


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--protocol", "continual"],
        ["--references", "."],
        ["--protocol", "hard", "--sentences", "x"],
    ],
)
def test_shipped_voices_have_nothing_to_draw_from(tmp_path: Path, options: list[str]) -> None:
    assert call("eval", "list", "shipped", tmp_path / "out.jsonl", *options).exit_code == 1
    assert call("eval", "summary", tmp_path / "tables.md", "nameless").exit_code == 1
    assert not any(tmp_path.iterdir())
