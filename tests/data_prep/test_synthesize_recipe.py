"""`make weights`: its stages are commands that exist, in an order in which each finds what it reads."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import torch
import typer
import yaml

from speechlm.cli import app
from speechlm.slm.autoregressive import AutoregressiveModel
from speechlm.slm.config import AutoregressiveConfig, NonAutoregressiveConfig
from speechlm.slm.nonautoregressive import NonAutoregressiveModel
from speechlm.tokenizer.codes import CodecIdentity
from speechlm.train.codec_recipe import CodecTraining
from speechlm.train.config import AlignerTraining, LanguageModelTraining, read_run_config
from speechlm.train.describe import describe_codec

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "configs" / "default"
PAIR = ("AR_RECIPE=configs/default/ar.yaml", "NAR_RECIPE=configs/default/nar.yaml")

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


@cache
def planned(folder: str, *variables: str) -> list[list[str]]:
    """The words of every command that `make weights` would run on an empty folder."""
    (Path(folder) / "voices").mkdir(parents=True, exist_ok=True)
    (Path(folder) / "voices" / "af_heart.bin").touch()
    (Path(folder) / "text.txt").touch()
    given = [
        f"WEIGHTS={folder}/w", "SPEECHLM=speechlm", "WEIGHTS_NEED=", f"TEXT={folder}/text.txt",
        f"VOICES={folder}/voices",
    ]  # fmt: skip
    said = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "weights", *given, *variables],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.replace("\\\n", " ")  # fmt: skip
    return [shlex.split(line)[1:] for line in said.splitlines() if line.startswith("speechlm ")]


VARIANTS = [
    (),
    ("REAL=/corpora/one /corpora/two",),
    ("TRANSCRIBED=/corpora/one",),
    ("TRANSCRIBED=/corpora/one", "COPIES=0"),
    PAIR,
    ("EXCLUDE=a.jsonl b.txt", "MORE_SPEECH=c d"),
]


@pytest.mark.parametrize("variables", VARIANTS, ids=str)
def test_every_stage_is_a_command_with_options_that_exist(tmp_path, variables):
    commands = planned(str(tmp_path), *variables)
    assert [c[0] for c in commands[:3]].count("synthesize") == 1
    for words in commands:
        command = typer.main.get_command(app)
        left = list(words)
        while hasattr(command, "commands"):
            assert left[0] in command.commands, words
            command = command.commands[left.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in left if word.startswith("--")} <= known, words


@pytest.mark.parametrize("variables", VARIANTS, ids=str)
def test_trainings_are_accepted_with_what_the_makefile_sets(tmp_path, variables):
    trainings = [words for words in planned(str(tmp_path), *variables) if words[0] == "train"]
    is_transcribed = "TRANSCRIBED" in str(variables)
    assert len(trainings) == (4 if variables == PAIR or is_transcribed else 3)
    kinds = {"codec": CodecTraining, "aligner": AlignerTraining, "slm": LanguageModelTraining}
    for words in trainings:
        kind = kinds[words[1]]
        sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        read = read_run_config(ROOT / words[2], sets, kind)
        if isinstance(read, CodecTraining):
            assert len(read.data) == (2 if "REAL" in str(variables) else 1)
            assert str(read.cache).startswith(str(tmp_path))
        elif isinstance(read, AlignerTraining):
            folders = [f"{tmp_path}/w/tokens-transcribed", f"{tmp_path}/w/tokens"]
            assert [str(s) for s in read.shards] == folders
        else:
            folders = ["tokens", "tokens-copies", "aligned", "aligned-copies"]
            if "COPIES=0" in variables:
                folders = [name for name in folders if not name.endswith("copies")]
            if not is_transcribed:
                folders = [name for name in folders if not name.startswith("aligned")]
            assert [str(s) for s in read.shards] == [f"{tmp_path}/w/{name}" for name in folders]


def test_the_language_model_is_trained_on_tokens_of_the_last_codec(tmp_path):
    commands = planned(str(tmp_path))
    order = [" ".join(words[:2]) for words in commands]
    tokenize = next(i for i, words in enumerate(commands) if words[0] == "tokenize")
    codecs = [i for i, words in enumerate(commands) if words[:2] == ["train", "codec"]]
    assert max(codecs) < tokenize < order.index("train slm")
    last, export = commands[codecs[-1]], commands[codecs[-1] + 1]
    # the second training goes on from the first, is exported, and that export makes the tokens
    assert (
        last[last.index("--from") + 1]
        == commands[codecs[0]][commands[codecs[0]].index("--run") + 1]
    )
    assert export[:2] == ["export", last[last.index("--run") + 1]]
    assert commands[tokenize][commands[tokenize].index("--codec") + 1] == export[2]


def test_people_are_aligned_before_the_language_model_hears_them(tmp_path):
    commands = planned(str(tmp_path), "TRANSCRIBED=/corpora/one")
    order = [" ".join(words[:2]) for words in commands]
    aligns = [i for i, words in enumerate(commands) if words[0] == "align"]
    assert len(aligns) == 2  # of the recordings and of their copies
    assert order.index("train aligner") < min(aligns) < max(aligns) < order.index("train slm")
    tokenized = {words[2]: words[1] for words in commands if words[0] == "tokenize"}
    copied = {words[2] for words in commands if words[0] == "perturb"}
    read = [Path(tokenized[str(Path(commands[align][1]))]).parent for align in aligns]
    assert [str(folder) in copied for folder in sorted(read)] == [False, True]
    assert len({w[w.index("--codec") + 1] for w in commands if w[0] == "tokenize"}) == 1


def test_held_out_speakers_are_those_that_the_figures_are_about(tmp_path):
    prepare = next(words for words in planned(str(tmp_path)) if words[0] == "prepare")
    pattern = re.compile(prepare[prepare.index("--valid-pattern") + 1])
    held_out = [name for n in range(400) if pattern.search(name := f"v1s{n:03d}")]
    assert held_out == [f"v1s{n:03d}" for n in range(9, 400, 10)]


def test_a_changed_wish_runs_its_stage_again_and_not_those_before(tmp_path):
    # everything was made: witnesses in the order of the stages
    planned(str(tmp_path))
    folder = tmp_path / "w"
    given = [
        f"WEIGHTS={folder}", "SPEECHLM=speechlm", "WEIGHTS_NEED=", f"TEXT={tmp_path}/text.txt",
        f"VOICES={tmp_path}/voices",
    ]  # fmt: skip

    def run(*more: str) -> str:
        done = subprocess.run(
            ["make", "--no-print-directory", "weights", *given, *more],
            cwd=ROOT, capture_output=True, text=True, check=False,
            env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "W": str(folder)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    stand_in = tmp_path / "bin" / "speechlm"  # touches the witness of each stage
    stand_in.parent.mkdir()
    stand_in.write_text(
        "#!/bin/sh\n"
        "last() { eval echo \\${$#}; }\n"
        'case "$1" in\n'
        '  synthesize) mkdir -p "$2"; touch "$2/summary-1.json";;\n'
        '  prepare) mkdir -p "$3"; touch "$3/manifest.jsonl";;\n'
        '  perturb) mkdir -p "$3"; touch "$3/manifest.jsonl";;\n'
        '  export) mkdir -p "$3"; touch "$3/model.safetensors";;\n'
        '  tokenize) mkdir -p "$3"; touch "$3/index.json";;\n'
        '  eval) case "$2" in list) touch "$4";; *) mkdir -p "$4"; touch "$4/report.json";; esac;;\n'
        "esac\n"
    )
    stand_in.chmod(0o755)
    assert "speechlm synthesize" in run()
    assert "speechlm" not in run()
    again = run("AR_OPTIONS=--set run.total_steps=30000")
    assert "train slm" in again and "eval tts" in again
    assert "train codec" not in again and "tokenize" not in again
    more = run("AR_OPTIONS=--set run.total_steps=30000", "HOURS=30")
    assert "speechlm synthesize" in more and "train codec" in more and "tokenize" in more


@pytest.mark.parametrize("name", ["codec", "codec-adversarial"])
def test_codec_recipes_have_crops_that_fit(name):
    read = read_run_config(RECIPES / f"{name}.yaml", [], CodecTraining)
    assert read.batch_seconds % read.crop_seconds == 0
    if name == "codec":
        found = describe_codec(read)
        assert found.config.is_causal and found.lookahead_seconds <= 0.040
        assert max(found.bits_per_second.values()) == 3000
    else:
        assert read.adversarial is not None
        assert read.adversarial.start_step + read.adversarial.ramp_steps < read.run.total_steps


@pytest.mark.parametrize("name", ["ar", "nar", "ar-6books"])
def test_language_model_recipes_have_the_parameters_that_they_state(name):
    read = read_run_config(RECIPES / f"{name}.yaml", [], LanguageModelTraining)
    identity = CodecIdentity("any", "0" * 16, 16_000, 320, 1024, 6, 3)
    config, model = {
        "ar": (AutoregressiveConfig, AutoregressiveModel),
        "nar": (NonAutoregressiveConfig, NonAutoregressiveModel),
    }[read.stage]
    with torch.device("meta"):
        built = model(config.for_codec(identity, **read.model))
    assert built.config.alignment == "pointer"
    millions = sum(parameter.numel() for parameter in built.parameters()) / 1e6
    first = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(f"# {millions:.2f} M parameters")


def test_the_pair_shares_its_books():
    models = [yaml.safe_load((RECIPES / f"{n}.yaml").read_text())["model"] for n in ("ar", "nar")]
    assert models[0]["ar_books"] == models[1]["ar_books"] == 3
