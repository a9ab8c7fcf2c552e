"""The house keeps its order: floors, package list, package data, and a light root."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

import speechlm

ROOT = Path(__file__).resolve().parents[1]
FLOORS = [
    "errors",
    "tokenizer",
    "slm",
    "transmission",
    "data_prep",
    "train",
    "eval",
    "commands",
    "cli",
]
ROOT_MODULES = ["__init__.py", "__main__.py", "cli.py", "errors.py"]
PACKAGES = FLOORS[1:-1]
SOURCES = sorted(
    [ROOT / name for name in ROOT_MODULES]
    + [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETTINGS = PROJECT["tool"]["setuptools"]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted target of each import; targets inside the package begin with `speechlm.`."""
    package = ["speechlm", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + ([node.module] if node.module else [])
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_imports_run_downwards_only(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if own in ("__init__", "__main__"):  # the face, above every floor
        return
    upwards = [
        f"line {line}: {target}"
        for line, target in _imports(path)
        if target.startswith("speechlm.")
        and (floor := target.split(".")[1]) in FLOORS
        and FLOORS.index(floor) > FLOORS.index(own)
    ]
    assert not upwards


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_the_package_imports_itself_relatively(path: Path) -> None:
    own_names = {"speechlm", *FLOORS}
    absolute = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and own_names & {a.name.split(".")[0] for a in node.names})
        or (
            isinstance(node, ast.ImportFrom)
            and node.level == 0
            and (node.module or "").split(".")[0] in own_names
        )
    ]
    assert not absolute


def test_every_sub_package_is_installed() -> None:
    in_tree = {
        ".".join(["speechlm", *init.parent.relative_to(ROOT).parts])
        for package in PACKAGES
        for init in (ROOT / package).rglob("__init__.py")
    }
    assert set(SETTINGS["packages"]) == in_tree | {"speechlm"}


def test_every_sub_package_has_an_init() -> None:
    folders = {path.parent for path in SOURCES}
    assert not [str(folder) for folder in folders if not (folder / "__init__.py").is_file()]


def test_shipped_weights_stay_small() -> None:
    weights = [path for folder in PACKAGES for path in (ROOT / folder / "weights").rglob("*.*")]
    assert 0 < sum(path.stat().st_size for path in weights if path.is_file()) <= 45_000_000


def test_every_data_file_is_installed() -> None:
    installed = {
        path
        for package, patterns in SETTINGS["package-data"].items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")[1:]).glob(pattern)
    }
    folders = [ROOT / "configs", *(ROOT / package / "weights" for package in PACKAGES)]
    data = {path for folder in folders for path in folder.rglob("*") if path.is_file()}
    assert not sorted(map(_name, data - installed))


def test_no_root_module_hides_another_package() -> None:
    taken = set(sys.stdlib_module_names) | set(packages_distributions())
    assert not {name for name in FLOORS if name in taken}


@pytest.mark.parametrize("module", ["speechlm", "speechlm.cli"])
def test_import_stays_light(module: str) -> None:
    heavy = ["torch", "numpy", "transformers", "datasets", "accelerate", "matplotlib"]
    code = f"import sys, {module}; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", speechlm.__all__)
def test_public_name_resolves(name: str) -> None:
    assert getattr(speechlm, name) is not None
    assert name in dir(speechlm)


def test_lazy_names_are_the_objects_of_their_modules() -> None:
    assert speechlm.Codes is import_module("speechlm.tokenizer.codes").Codes


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Vocoder'"):
        speechlm.Vocoder  # noqa: B018


def test_type_checkers_and_python_see_the_same_names() -> None:
    seen_by_checkers = {
        target.rsplit(".", 1)[1]: target.rsplit(".", 1)[0].removeprefix("speechlm")
        for _, target in _imports(ROOT / "__init__.py")
        if target.startswith("speechlm.") and not target.startswith("speechlm.errors")
    }
    assert seen_by_checkers == speechlm._HOMES
    assert set(speechlm.__all__) == {*seen_by_checkers, "SpeechLMError", "__version__"}


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=_name)
def test_recipe_is_a_yaml_mapping(path: Path) -> None:
    assert path.suffix == ".yaml"
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)
