"""What is wrong with a recipe, in our words: field, value, and what to give instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

_SECTION = "a section of keys and values"
# Kinds of pydantic's errors to what the field takes; braces name values of the error.
_WANTED = {
    "literal_error": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": _SECTION,
    "model_type": _SECTION,
    "model_attributes_type": _SECTION,
    "too_short": "{min_length} or more values",
    "too_long": "no more than {max_length} values",
}
_MOST_SHOWN = 60  # characters of a wrong value


def refusals(error: ValidationError, kind: type[BaseModel]) -> str:
    """All that is wrong with a recipe, a part of a sentence for each, in the order of the fields.

    Args:
        error: What pydantic found.
        kind: The recipe's class, whose keys are offered where one is unknown.
    """
    return "; ".join(_refusal(each, kind) for each in error.errors(include_url=False))


def not_yaml(error: Exception) -> str:
    """Where and why a text is not YAML, as a part of a sentence."""
    mark = getattr(error, "problem_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"


def _refusal(problem: Mapping[str, Any], kind: type[BaseModel]) -> str:
    place, what = problem["loc"], problem["type"]
    field = ".".join(map(str, place))
    if what == "extra_forbidden":
        return f"{field} is an unknown key{_meant(place, kind)}"
    if what == "missing" and isinstance(place[-1], int):
        return f"{'.'.join(map(str, place[:-1]))} has too few values, give more than {place[-1]}"
    if what == "missing":
        return f"{field} is missing, give it"
    if what == "value_error":  # a sentence of ours, which names its fields itself
        sentence = str(problem["ctx"]["error"])
        return f"{field}: {sentence}" if field else sentence
    if what in _WANTED:
        wanted = _WANTED[what].format(**problem.get("ctx", {}))
        return f"{field} is {_shown(problem['input'])}, give {wanted}"
    return f"{field}: {problem['msg']}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 1]}…"


def _meant(place: Sequence[str | int], kind: type[BaseModel]) -> str:
    """The known key that is most like an unknown one, if any is."""
    section: Any = kind
    for step in place[:-1]:
        section = _model_of(section, step)
    if section is None:
        return ""
    found = get_close_matches(str(place[-1]), section.model_fields, n=1)
    return f" (do you mean {found[0]}?)" if found else ""


def _model_of(section: Any, step: str | int) -> type[BaseModel] | None:
    """The class of a section of a section; items of a list are of the class that the list names."""
    if section is None or isinstance(step, int):
        return section
    field = section.model_fields.get(step)
    waiting = [] if field is None else [field.annotation]
    for annotation in waiting:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
        waiting += getattr(annotation, "__args__", ())
    return None
