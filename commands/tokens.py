"""Token datasets as a whole: `tokens check`, `tokens push`, `tokens pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None)
datasets = typer.Typer(
    help="Check a token dataset, or share it: `check`, `push` or `pull`.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(datasets, name="tokens")

Dataset = Annotated[Path, typer.Argument(help="Folder that `tokenize` wrote.")]
Repository = Annotated[str, typer.Argument(help="Dataset on the Hub: owner/name.")]
Revision = Annotated[str | None, typer.Option(help="Branch, or for `pull` a tag or commit.")]


@datasets.command()
def check(folder: Dataset) -> None:
    """Verify every checksum and every value; exit 1 if anything is damaged."""
    from ..data_prep.damage import check_dataset

    report = check_dataset(folder, progress=True)
    typer.echo(report.table())
    if not report.whole:
        raise typer.Exit(1)


@datasets.command()
def push(
    folder: Dataset,
    repository: Repository,
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public, not private.")
    ] = False,
    revision: Revision = None,
) -> None:
    """Check a token dataset, then put it on the Hub in one commit."""
    from ..data_prep.hub import push_to_hub

    typer.echo(
        push_to_hub(folder, repository, private=not public, revision=revision, progress=True)
    )


@datasets.command()
def pull(
    repository: Repository,
    folder: Annotated[Path, typer.Argument(help="Where the dataset shall lie.")],
    revision: Revision = None,
) -> None:
    """Download a token dataset from the Hub."""
    from ..data_prep.hub import pull_from_hub

    typer.echo(pull_from_hub(repository, folder, revision=revision))
