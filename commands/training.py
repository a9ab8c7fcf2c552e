"""Models: `train`, `finetune` and `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ..errors import ConfigError

app = typer.Typer(rich_markup_mode=None)


@app.command()
def train(
    kind: Annotated[
        Literal["codec", "slm", "aligner", "entropy", "fine", "masked"],
        typer.Argument(help="What to train."),
    ],
    config: Annotated[Path, typer.Argument(help="Recipe, a YAML file as in configs/.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one value; may be repeated."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Run folder; an interrupted run goes on where it stopped.")
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FOLDER",
            help="Fine-tune the codec or language model of this run or folder, or `shipped`.",
        ),
    ] = None,
    overfit: Annotated[
        bool,
        typer.Option("--overfit", help="Learn one batch by heart: is the set-up sound? (slm)"),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained, its size and its cost.")
    ] = False,
) -> None:
    """Train a codec, a speech language model, an aligner or a model for transmission from a recipe."""
    if overfit and kind != "slm":
        raise ConfigError("--overfit proves the set-up of a language model; use `train slm`.")
    from ..data_prep.output import require_results_folder
    from ..train.recipe import check_recipe

    # a description of a codec needs no data
    check_recipe(kind, config, overrides or [], start_from, data=not (dry_run and kind == "codec"))
    if run is not None:
        require_results_folder(run)
    from ..train.run import describe_training, run_training

    if overfit:
        from ..train.overfit import overfit_batch

        found = overfit_batch(config, overrides or [], start_from)
        typer.echo(found.verdict())
        raise typer.Exit(not found.is_sound)
    if dry_run:
        typer.echo(describe_training(kind, config, overrides or [], start_from).table())
        return
    typer.echo(run_training(kind, config, overrides or [], run, start_from))


@app.command()
def finetune(
    recordings: Annotated[
        str,
        typer.Argument(
            help="Transcribed recordings: a folder of NAME.wav with NAME.txt, or any corpus that "
            "`prepare` reads; more than a minute."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder for `say --model`.")],
    lora: Annotated[
        bool, typer.Option("--lora", help="Train adapters: for minutes of one voice.")
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps; if not given 200, or 30 passes over few recordings."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change the training recipe; may be repeated."
        ),
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FOLDER",
            help="Models to start from, as `say --model` takes them; what ships if not given.",
        ),
    ] = None,
    aligner: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Aligner for their codec; what ships if not given."),
    ] = None,
) -> None:
    """Teach the shipped voice model your own recordings; run again to resume."""
    from ..train.finetune import FineTuning

    plan = FineTuning(recordings, out, lora, steps, tuple(overrides or ()), start_from, aligner)
    plan.check()
    from ..train.finetune_stages import fine_tune

    fine_tune(plan, tell=typer.echo)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run folder of `train`.")],
    out: Annotated[Path, typer.Argument(help="Folder for the model to share.")],
    storage: Annotated[
        Literal["float32", "half", "int8"],
        typer.Option(help="Bytes of a weight in the file: 4, 2, or for a language model 1."),
    ] = "half",
    mean_with: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN[=SHARE]",
            help="Another run, begun at the same weights, to take the mean with; may be repeated.",
        ),
    ] = None,
) -> None:
    """Turn a run, or the mean of several, into a model folder to share."""
    from ..train.export import export_run

    export_run(run, out, storage, mean_with or ())
    typer.echo(out)
