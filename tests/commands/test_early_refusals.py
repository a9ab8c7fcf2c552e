"""What a command can refuse without a model, it refuses before torch is imported: at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).resolve().parents[2] / "configs" / "ar-5m.yaml"
# Arguments in a folder that holds note.wav (not empty), list.jsonl, manifest.jsonl and a folder `there`;
# and a word of the sentence that the user gets.
MISTAKES = [
    (["say", "", "-o", "a.wav"], "empty"),
    (["say", "?!", "-o", "a.wav"], "nothing to speak"),
    (["say", "Hi.", "-o", "a.xyz"], ".xyz"),
    (["say", "Hi.", "-o", "none/a.wav"], "none"),
    (["say", "Hi.", "-o", "there"], "folder"),
    (["say", "Hi.", "-o", "a.wav", "--prompt", "there"], "folder"),
    (["say", "Hi.", "-o", "a.wav", "--prompt", "nobody"], "nobody"),
    (["say", "Hi.", "-o", "a.wav", "--model", "none"], "none"),
    (["say", "--list", "none.jsonl", "-o", "out"], "none.jsonl"),
    (["say", "--list", "list.jsonl", "-o", "note.wav"], "note.wav"),
    (["say", "--list", "list.jsonl", "-o", "out"], "line 1"),
    (["say", "--list", "list.jsonl", "-o", "out"], "nobody"),
    (["voice", "nobody", "a.safetensors"], "nobody"),
    (["voice", "clara", "a.wav"], ".safetensors"),
    (["voice", "clara", "none/a.safetensors"], "none"),
    (["finetune", "note.wav", "out"], "one recording"),
    (["train", "slm", "none.yaml"], "configs"),
    (["train", "slm", "ar-6books.yaml", "--set", "shards=[none]"], "no token dataset none"),
    (["train", "slm", "configs/ar-6books.yaml", "--set", "shards=[there]"], "no finished"),
    (["encode", "none.wav", "a.codes"], "none.wav"),
    (["encode", "note.wav", "none/a.codes"], "none"),
    (["decode", "none.codes", "a.wav"], "none.codes"),
    (["decode", "note.wav", "a.xyz"], ".xyz"),
    (["compress", "none.wav", "a.lmc"], "none.wav"),
    (["compress", "note.wav", "there"], "folder"),
    (["compress", "note.wav", "a.lmc", "--model", "none"], "entropy model none"),
    (["decompress", "none.lmc", "a.wav"], "none.lmc"),
    (["decompress", "note.wav", "a.xyz"], ".xyz"),
    (["decompress", "note.wav", "a.wav", "--fine", "none"], "none"),
    (["transmit", "none.wav", "a.wav"], "none.wav"),
    (["transmit", "note.wav", "a.xyz"], ".xyz"),
    (["transmit", "note.wav", "a.wav", "--loss", "often"], "often"),
    (["transmit", "note.wav", "a.wav", "--profile", "best"], "best"),
    (["send", "none.wav", "127.0.0.1:5004"], "none.wav"),
    (["send", "note.wav", "nowhere"], "HOST:PORT"),
    (["send", "note.wav", "127.0.0.1:5004", "--profile", "best"], "best"),
    (["send", "note.wav", "127.0.0.1:5004", "--loss", "often"], "often"),
    (["receive", "a.xyz"], ".xyz"),
    (["receive", "a.wav", "--profile", "best"], "best"),
    (["receive", "a.wav", "--model", "none"], "none"),
    (["perturb", "none.jsonl", "out"], "none.jsonl"),
    (["perturb", "manifest.jsonl", "note.wav"], "note.wav"),
    (["tokenize", "there", "out"], "there"),
    (["tokenize", "manifest.jsonl", "note.wav"], "note.wav"),
    (["tokenize", "manifest.jsonl", "out", "--codec", "none"], "none"),
    (["align", "there", "out", "--model", "there"], "there"),
    (["align", "there", "out"], "there"),
    (["finetune", "none", "out"], "none"),
    (["finetune", "there", "out"], "no recording with a transcript"),
    (["finetune", "there", "note.wav"], "note.wav"),
    (["finetune", "there", "out", "--from", "none"], "none"),
    (["finetune", "there", "out", "--set", "run.total_steps=0"], "total_steps"),
    (["train", "slm", "none.yaml"], "none.yaml"),
    (["train", "codec", str(RECIPE)], "recipe for `train slm`"),
    (["train", "slm", str(RECIPE), "--set", "stage=or"], "stage"),
    (["train", "slm", str(RECIPE), "--set", "shards=[there]"], "there"),
    (["train", "slm", str(RECIPE), "--from", "none"], "none"),
]
WATCHED = """
import contextlib, io, json, sys
import typer
from speechlm.cli import app

command, told = typer.main.get_command(app), []
for arguments in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        code = 0
        try:
            command(arguments)
        except SystemExit as end:
            code = end.code
    told.append([code, stderr.getvalue(), "torch" in sys.modules])
json.dump(told, sys.stdout)
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str, bool]]:
    """Exit code, stderr and whether torch was imported by then, of each mistake in its turn."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "there").mkdir()
    (folder / "note.wav").write_text("no sound")
    (folder / "manifest.jsonl").write_text("{}\n")
    rows = [{"text": "..."}, {"text": "Hi.", "prompt": "nobody"}]
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = subprocess.run(
        [sys.executable, "-c", WATCHED],
        input=json.dumps([arguments for arguments, _ in MISTAKES]),
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    return [tuple(each) for each in json.loads(done.stdout)]


@pytest.mark.parametrize("place", range(len(MISTAKES)), ids=[" ".join(m) for m, _ in MISTAKES])
def test_a_mistake_is_told_before_torch_is_imported(
    place: int, told: list[tuple[int, str, bool]]
) -> None:
    code, stderr, has_torch = told[place]
    assert code == 1 and MISTAKES[place][1] in stderr
    assert stderr.startswith("speechlm: ")
    assert not has_torch
