"""Where the results of a step go, and how their numbers are said."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigError


def make_folder(folder: Path) -> Path:
    """Make a folder for results, with those above it; one that is there already is as good.

    Returns:
        The folder.

    Raises:
        ConfigError: If a file lies in its place, or it may not be made.
    """
    require_results_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"The folder {folder} cannot be made ({error.strerror}); make it first or name another."
        ) from error
    return folder


def require_results_folder(folder: Path) -> Path:
    """The folder itself, if it is one or could be made one.

    Raises:
        ConfigError: If a file lies in its place.
    """
    for path in (folder, *folder.parents):
        if path.is_dir():
            break
        if path.exists():
            raise ConfigError(
                f"Results cannot go to {folder}, since {path} is a file; name another folder."
            )
    return folder


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: `1 shard`, `2 shards`; `plural` where it takes more than an s."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
