"""Corpora: `prepare`, `perturb`, `tokenize`, `align` and `pieces`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import CodecFolder, NumBooks, Seed

app = typer.Typer(rich_markup_mode=None)

_Workers = Annotated[int, typer.Option(min=1, help="Processes that share the work.")]


@app.command()
def prepare(
    corpora: Annotated[
        list[str],
        typer.Argument(
            metavar="CORPUS...", help="Folders, lists or hf://owner/name; docs/data.md names all."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the clean manifest.")],
    layout: Annotated[
        str | None, typer.Option(help="Read as this layout, such as ljspeech, instead of guessing.")
    ] = None,
    reader_options: Annotated[
        list[str] | None,
        typer.Option(
            "--reader-option", metavar="NAME=VALUE", help="Of the layout; may be repeated."
        ),
    ] = None,
    allow_missing_text: Annotated[
        bool, typer.Option("--allow-missing-text", help="Keep recordings without transcript.")
    ] = False,
    phonemes: Annotated[
        str | None,
        typer.Option(metavar="LANGUAGE", help="Write phonemes where there are none, e.g. en-us."),
    ] = None,
    require_phonemes: Annotated[
        bool, typer.Option("--require-phonemes", help="Drop recordings without phonemes.")
    ] = False,
    valid_share: Annotated[float, typer.Option(help="Share of held-out speakers.")] = 0.05,
    valid_pattern: Annotated[
        str | None, typer.Option(help="Hold out the speakers that this pattern finds instead.")
    ] = None,
    test_share: Annotated[float, typer.Option(help="Share of speakers held out for tests.")] = 0.0,
    resplit: Annotated[
        bool, typer.Option("--resplit", help="Let no split of the corpus stand.")
    ] = False,
    seed: Seed = 0,
    workers: _Workers = 1,
    min_seconds: Annotated[float, typer.Option(help="Drop shorter recordings.")] = 0.4,
    max_seconds: Annotated[float, typer.Option(help="Drop longer recordings.")] = 30.0,
    resample_hz: Annotated[int | None, typer.Option(help="Store at this sampling rate.")] = None,
    downmix: Annotated[str | None, typer.Option(help="Store one channel: mean or first.")] = None,
    trim_silence: Annotated[
        bool,
        typer.Option("--trim-silence", help="Cut both ends to the speech."),
    ] = False,
    loudness_lufs: Annotated[
        float | None,
        typer.Option(help="Store at this loudness, such as -23."),
    ] = None,
    max_clipped_share: Annotated[
        float | None,
        typer.Option(help="Drop recordings clipped more than this."),
    ] = None,
    min_bandwidth_share: Annotated[
        float | None, typer.Option(help="The same as a share of half the sampling rate.")
    ] = None,
    min_bandwidth_hz: Annotated[
        float | None,
        typer.Option(help="Drop recordings that end below."),
    ] = None,
    scripts: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Drop transcripts in other writing systems, e.g. Latin."),
    ] = None,
    characters_per_second: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LEAST MOST", help="Drop transcripts too short or long for their speech."
        ),
    ] = None,
    apparent_speed: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LEAST MOST", help="Drop what sounds slower or faster: wrong sampling rates."
        ),
    ] = None,
    keep_duplicates: Annotated[
        bool, typer.Option("--keep-duplicates", help="Keep recordings with the same samples.")
    ] = False,
    near_duplicates: Annotated[
        bool,
        typer.Option("--near-duplicates", help="Drop copies in another encoding or level too."),
    ] = False,
) -> None:
    """Check recordings and transcripts, clean them if asked: a clean manifest."""
    from ..data_prep.cleaning import CleaningOptions
    from ..data_prep.prepare import prepare_corpus
    from ..data_prep.readers.options import parse_options
    from ..slm.text import default_front_end

    summary = prepare_corpus(
        corpora[0] if len(corpora) == 1 else corpora,
        out,
        options=CleaningOptions(
            min_seconds=min_seconds,
            max_seconds=max_seconds,
            resample_hz=resample_hz,
            downmix=downmix,
            trim_silence=trim_silence,
            loudness_lufs=loudness_lufs,
            max_clipped_share=max_clipped_share,
            min_bandwidth_hz=min_bandwidth_hz,
            min_bandwidth_share=min_bandwidth_share,
            scripts=tuple(scripts.split(",")) if scripts else (),
            characters_per_second=characters_per_second,
            apparent_speed=apparent_speed,
            duplicates=not keep_duplicates,
            near_duplicates=near_duplicates,
        ),
        layout=layout,
        reader_options=parse_options(reader_options or []),
        require_text=not allow_missing_text,
        require_phonemes=require_phonemes,
        front_end=None if phonemes is None else default_front_end(phonemes),
        valid_share=valid_share,
        valid_pattern=valid_pattern,
        test_share=test_share,
        resplit=resplit,
        seed=seed,
        workers=workers,
        plot=True,
    )
    typer.echo(summary.report())


@app.command()
def perturb(
    manifest: Annotated[Path, typer.Argument(help="manifest.jsonl that `prepare` wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder for the copies and their manifest.")],
    copies: Annotated[int, typer.Option(help="Of each speaker.")] = 1,
    max_speed: Annotated[
        float, typer.Option(help="Rate and pitch change by up to this factor; 1: not at all.")
    ] = 1.15,
    same_place: Annotated[
        bool, typer.Option("--same-place", help="Leave room, microphone and noise as they are.")
    ] = False,
    seed: Seed = 0,
    workers: Annotated[int, typer.Option(min=1, help="Threads that share the work.")] = 1,
) -> None:
    """Copy training speech into other voices, rooms and microphones; run again to resume."""
    from ..data_prep.manifest import require_manifest
    from ..data_prep.output import require_results_folder

    require_manifest(manifest)
    require_results_folder(out)
    from ..data_prep.perturb import perturb_manifest

    summary = perturb_manifest(
        manifest,
        out,
        copies=copies,
        max_speed=max_speed,
        places=not same_place,
        seed=seed,
        workers=workers,
    )
    typer.echo(summary.report())


@app.command()
def tokenize(
    manifest: Annotated[Path, typer.Argument(help="manifest.jsonl that `prepare` wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder for the token shards.")],
    codec: CodecFolder = None,
    num_books: NumBooks = None,
    rows_per_shard: Annotated[int, typer.Option(min=1, help="Utterances in a shard.")] = 1000,
    batch_seconds: Annotated[
        float, typer.Option(help="Padded audio that is encoded at once.")
    ] = 120.0,
    workers: _Workers = 1,
    engine: Annotated[
        Literal["local", "processes", "accelerate", "ray"] | None,
        typer.Option(help="Who makes the shards; chosen by the surroundings if not given."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Where the codec runs, e.g. cuda:0; a GPU if there is one.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="SHARD", help="Make one shard again, e.g. train-00003.")
    ] = None,
) -> None:
    """Encode a manifest into token shards; run again to resume."""
    from ..data_prep.manifest import require_manifest
    from ..data_prep.output import require_results_folder
    from ..tokenizer.paths import require_model_folder

    require_manifest(manifest)
    require_results_folder(out)
    require_model_folder(codec)
    from ..data_prep.tokenize import tokenize_manifest

    summary = tokenize_manifest(
        manifest,
        out,
        codec_folder=codec,
        device=device,
        num_books=num_books,
        rows_per_shard=rows_per_shard,
        batch_seconds=batch_seconds,
        workers=workers,
        engine=engine,
        only=only,
    )
    if summary.rank == 0:  # under a launcher every rank is here
        typer.echo(summary.table())


@app.command()
def align(
    shards: Annotated[Path, typer.Argument(help="Token dataset with phonemes.")],
    out: Annotated[Path, typer.Argument(help="Folder for the same dataset with durations.")],
    model: Annotated[
        Path | None,
        typer.Option(help="Exported model of `train aligner`; the one that ships if not given."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Align rows that have durations too.")
    ] = False,
    min_margin: Annotated[
        float, typer.Option(help="Believe no alignment with a lower margin; nats a frame.")
    ] = 0.2,
) -> None:
    """Find how long each phoneme lasts, where the corpus does not say."""
    from ..data_prep.output import require_results_folder
    from ..data_prep.receipts import require_dataset
    from ..tokenizer.paths import require_model_folder

    require_dataset(shards)
    require_results_folder(out)
    require_model_folder(model)
    from ..data_prep.align import align_shards
    from ..data_prep.receipts import read_index
    from ..slm.aligner import load_aligner

    aligner = load_aligner(model, read_index(shards).codec, f"The codec of {shards}")
    summary = align_shards(shards, out, aligner, overwrite=overwrite, min_margin=min_margin)
    typer.echo(summary.table())


@app.command()
def pieces(
    manifest: Annotated[Path, typer.Argument(help="manifest.jsonl that `prepare` wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder for pieces.model.")],
    vocab_size: Annotated[int, typer.Option(min=1, help="Pieces to learn.")] = 1000,
    kind: Annotated[
        Literal["unigram", "bpe"], typer.Option("--type", help="How they are learned.")
    ] = "unigram",
    as_written: Annotated[
        bool, typer.Option("--as-written", help="Spell out no English numbers, abbreviations.")
    ] = False,
) -> None:
    """Learn text pieces (SentencePiece) from the transcripts of a manifest."""
    from ..data_prep.text_model import train_text_model

    summary = train_text_model(manifest, out, vocab_size, kind, is_english=not as_written)
    typer.echo(summary.table())
