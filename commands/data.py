"""Corpora: `prepare` and `tokenize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import CodecFolder, NumBooks, Seed

app = typer.Typer(rich_markup_mode=None)


@app.command()
def prepare(
    corpus: Annotated[Path, typer.Argument(help="Folder of recordings, or a JSON lines list.")],
    out: Annotated[Path, typer.Argument(help="Folder for the clean manifest.")],
    min_seconds: Annotated[float, typer.Option(help="Drop shorter recordings.")] = 0.4,
    max_seconds: Annotated[float, typer.Option(help="Drop longer recordings.")] = 30.0,
    valid_share: Annotated[float, typer.Option(help="Share of held-out speakers.")] = 0.05,
    valid_pattern: Annotated[
        str | None, typer.Option(help="Hold out the speakers that this pattern finds instead.")
    ] = None,
    seed: Seed = 0,
    allow_missing_text: Annotated[
        bool, typer.Option("--allow-missing-text", help="Keep recordings without transcript.")
    ] = False,
) -> None:
    """Check recordings and transcripts: a clean manifest."""
    from ..data_prep.prepare import prepare_corpus

    summary = prepare_corpus(
        corpus,
        out,
        min_seconds=min_seconds,
        max_seconds=max_seconds,
        valid_share=valid_share,
        valid_pattern=valid_pattern,
        seed=seed,
        require_text=not allow_missing_text,
    )
    typer.echo(summary.table())


@app.command()
def tokenize(
    manifest: Annotated[Path, typer.Argument(help="manifest.jsonl that `prepare` wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder for the token shards.")],
    codec: CodecFolder = None,
    num_books: NumBooks = None,
    rows_per_shard: Annotated[int, typer.Option(min=1, help="Utterances in a shard.")] = 1000,
) -> None:
    """Encode a manifest into token shards; run again to resume."""
    from ..data_prep.tokenize import tokenize_manifest
    from ..tokenizer.codec import load_codec

    summary = tokenize_manifest(
        manifest, out, codec=load_codec(codec), num_books=num_books, rows_per_shard=rows_per_shard
    )
    typer.echo(summary.table())
