"""Options that several commands share, and how a command group is made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

CodecFolder = Annotated[
    Path | None, typer.Option("--codec", help="Codec folder; the shipped codec if not given.")
]
NumBooks = Annotated[
    int | None, typer.Option(min=1, help="Codebooks to use; all of them if not given.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Use only the first so many items.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same result.")]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "int8"],
    typer.Option(
        help="Of the weights; auto: int8 for one text if the processor has it, else fp32."
    ),
]
Transcribe = Annotated[
    bool,
    typer.Option("--transcribe", help="Hear what the prompt says, where no text of it is given."),
]
RecognizerFolder = Annotated[
    Path | None,
    typer.Option("--recognizer", help="Folder of the Whisper (CTranslate2) that hears."),
]
