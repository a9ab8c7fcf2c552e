"""Optional packages of the scorers, each asked for at the moment it is needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from ..errors import MissingExtra

EXTRA = "pip install '.[eval]'"


def require(module: str, purpose: str, install: str = EXTRA) -> ModuleType:
    """Import an optional module.

    Args:
        module: Dotted name.
        purpose: What the user wanted, as the subject of a sentence ("PESQ").
        install: The command that brings the module.

    Raises:
        MissingExtra: If the module is not installed; the sentence names `install`.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"{purpose} needs the package {module.partition('.')[0]}, which is not installed; "
            f"in a checkout run `{install}`."
        ) from error
