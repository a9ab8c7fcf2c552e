"""What the documents promise exists: names, commands, options, targets, files and links."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer

import speechlm
from speechlm.cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SNIPPETS = [
    pytest.param(path, code, id=f"{path.name}-{number}")
    for path in DOCUMENTS
    for number, code in enumerate(
        re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)
    )
]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("path", "code"), SNIPPETS)
def test_snippet_compiles_and_imports_public_names(path: Path, code: str) -> None:
    for node in ast.walk(ast.parse(code, filename=path.name)):
        if isinstance(node, ast.ImportFrom) and node.module == "speechlm":
            assert {alias.name for alias in node.names} <= set(speechlm.__all__)


@pytest.mark.slow
def test_readme_snippets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seconds = np.arange(32_000) / 16_000
    voice = sum(np.sin(2 * np.pi * 120 * k * seconds) / k for k in range(1, 20))
    shutil.copytree(ROOT / "tests" / "assets" / "tokens-format-2", "tokens")
    soundfile.write("some.wav", 0.2 * voice * (1 + np.sin(6 * np.pi * seconds)) / 2, 16_000)
    for code in [p.values[1] for p in SNIPPETS if p.values[0].name == "README.md"]:
        exec(compile(str(code), "README.md", "exec"), {})
    assert soundfile.info("out.wav").frames > 0


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_commands_and_options_exist(path: Path) -> None:
    # a command stands in a code block's line or between backticks
    found = re.findall(r"(?:^    |^|`)speechlm ([a-z][^`\n#]*)", _text(path), re.M)
    for words in map(str.split, found):
        command = typer.main.get_command(app)
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, f"speechlm {words[0]}"
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        given = {word.split("=")[0] for word in words if word.startswith("--")}
        assert given <= known, f"{command.name}: {given - known}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_make_targets_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", _text(ROOT / "Makefile"), re.M))
    for line in re.findall(r"(?:^    |`)make ([a-z][a-z ]*[a-z])", _text(path), re.M):
        assert set(line.split()) <= targets


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", _text(path))
    local = [link for link in links if "://" not in link]
    assert not [link for link in local if not (path.parent / link).exists()]


def test_files_that_the_readme_names_exist() -> None:
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|yaml|md))`", _text(ROOT / "README.md"))
    assert named
    assert not [name for name in named if not (ROOT / name).is_file()]


def test_readme_names_every_command_and_extra() -> None:
    text = _text(ROOT / "README.md")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    shown = [name for name, command in commands.items() if not command.hidden]
    assert not [name for name in shown if f"`speechlm {name} " not in text]
    extras = _text(ROOT / "pyproject.toml").split("[project.optional-dependencies]")[1]
    names = re.findall(r"^([a-z]+) = \[", extras.split("\n[")[0], re.M)
    assert not [name for name in names if f"`{name}`" not in text]


def test_readme_names_the_shipped_voices_and_the_default_one() -> None:
    text = _text(ROOT / "README.md")
    default, *others = speechlm.shipped_voices()
    assert f"{default} being the default" in text
    assert not [name for name in others if name not in text]
