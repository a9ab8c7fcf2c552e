"""The command line: the groups of `commands/` in the order of the road, and how errors are said."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from . import __version__
from .commands import (
    codec,
    data,
    evaluation,
    link,
    speech,
    synthesis,
    tokens,
    training,
    transmission,
)
from .errors import SpeechLMError


class _Commands(TyperGroup):
    """A group that says a user's error in one sentence on stderr and exits with 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command; `ctx` is the context that typer makes."""
        try:
            return super().invoke(ctx)
        except SpeechLMError as error:
            sentence = " ".join(str(error).split())
        except BrokenPipeError:
            raise  # `speechlm … | head`: not a failure, typer ends quietly
        except OSError as error:
            # A full disk, a missing folder, a forbidden file: the user's to mend.
            sentence = f"{error.filename}: {error.strerror}." if error.filename else str(error)
        typer.echo(f"speechlm: {sentence}", err=True)
        raise typer.Exit(1)


app = typer.Typer(
    cls=_Commands,
    help="Speech language models on codec tokens: recordings in, a cloned voice out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich alone takes as long to import as all the rest
)


for group in (synthesis, data, tokens, codec, transmission, link, training, speech, evaluation):
    app.add_typer(group.app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"speechlm {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Say the version."),
    ] = False,
) -> None:
    """Options before any command."""


def main() -> None:
    """Run the command line."""
    from .tokenizer.memory import keep_freed_memory

    keep_freed_memory()
    app()
