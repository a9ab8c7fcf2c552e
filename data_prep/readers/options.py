"""Options of layouts: the fields of their readers, set by name, from Python or from text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from ...errors import ConfigError
from .entry import CorpusReader


def parse_options(pairs: Iterable[str]) -> dict[str, str | dict[str, str]]:
    """Options from texts such as `text=original` or `columns.text=sentence`.

    Raises:
        ConfigError: If a text is not `name=value`.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        name, dot, key = name.strip().partition(".")
        if not sign or not name or bool(dot) != bool(key):
            raise ConfigError(f"{pair!r} is no reader option; give name=value.")
        if key:
            inner = options.setdefault(name, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{pair!r} does not fit another option of that name; give one.")
            inner[key] = value
        else:
            options[name] = value
    return options


def option_names(reader: CorpusReader) -> list[str]:
    """The names of a layout's options."""
    return [field.name for field in fields(reader)]  # type: ignore[arg-type]


def with_options(reader: CorpusReader, options: Mapping[str, object]) -> CorpusReader:
    """A reader with those options set that it has; the text of an option takes the option's type.

    Raises:
        ConfigError: If a value makes no sense.
    """
    known = {
        name: _as_type(name, value, getattr(reader, name))
        for name, value in options.items()
        if name in option_names(reader)
    }
    return replace(reader, **known) if known else reader  # type: ignore[type-var]


def _as_type(name: str, value: object, default: object) -> object:
    if isinstance(default, Mapping):
        if isinstance(value, Mapping):
            return dict(value)
        raise ConfigError(f"{name} is no mapping; give {name}.COLUMN=NAME.")
    if isinstance(default, tuple):
        parts = value.split(",") if isinstance(value, str) else value
        if isinstance(parts, Iterable):
            return tuple(str(part).strip() for part in parts)
    elif isinstance(default, bool):
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if (found := words.get(str(value).lower())) is not None:
            return found
    elif isinstance(default, int):
        try:
            return int(str(value))
        except ValueError:
            pass
    elif not isinstance(value, Mapping):
        return str(value)
    raise ConfigError(
        f"{name}={value!r} makes no sense; give a {type(default).__name__} like {default!r}."
    )
