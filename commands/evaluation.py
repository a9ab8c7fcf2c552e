"""Figures: what stands under `eval`, and what `make demo` and `make tiny` run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import CodecFolder, Limit, Seed

app = typer.Typer(rich_markup_mode=None)

_TOLD = ("sentences", "wer", "similarity_to_prompt", "mos")  # of each system, in the terminal

evaluation = typer.Typer(
    help="Measure a codec, its books or a speaker: `codec`, `rate`, `loss`, `probes` or `tts`.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(evaluation, name="eval")


@evaluation.command("codec")
def evaluate_codec_command(
    folder: Annotated[Path, typer.Argument(help="Recordings, or a manifest of `prepare`.")],
    out: Annotated[Path, typer.Argument(help="Report folder.")],
    codec: CodecFolder = None,
    num_books: Annotated[
        list[int] | None, typer.Option(min=1, help="A row for so many books; may be repeated.")
    ] = None,
    limit: Limit = None,
    baselines: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Programmes to judge too: all, or some of opus,codec2,amr-wb,speex (opus:12 for one mode).",
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER",
            help="Another system's output for these recordings; may be repeated.",
        ),
    ] = None,
    against_bps: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=BPS", help="The bits per second of such a system."),
    ] = None,
) -> None:
    """Measure what a codec keeps: PESQ, STOI, MOS, pitch, words, codebook use, speed."""
    from ..eval.codec import evaluate_codec
    from ..tokenizer.codec import load_codec

    evaluate_codec(
        folder,
        out,
        codec=load_codec(codec),
        num_books=num_books or None,
        limit=limit,
        baselines=baselines,
        against=against or (),
        against_bps=against_bps or (),
    )
    typer.echo(out)


@evaluation.command("rate")
def evaluate_rate_command(
    folder: Annotated[Path, typer.Argument(help="Recordings, or a manifest of `prepare`.")],
    out: Annotated[Path, typer.Argument(help="Report folder.")],
    codec: CodecFolder = None,
    entropy: Annotated[
        list[Path] | None,
        typer.Option(
            help="A file of `static-table` or an entropy model's folder, beside what ships; may be repeated."
        ),
    ] = None,
    fine: Annotated[
        list[Path] | None,
        typer.Option(help="A fine model's folder, beside what ships; may be repeated."),
    ] = None,
    chunk_frames: Annotated[
        int, typer.Option(min=1, max=255, help="Frames that are coded, and lost, together.")
    ] = 50,
    limit: Limit = None,
    baselines: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Programmes beside ours, as for `eval codec`; low modes of all four if not given, none if "
            "empty.",
        ),
    ] = None,
) -> None:
    """Measure what speech costs as an .lmc file and how it sounds, beside other codecs."""
    from ..eval.rate import BASELINES, evaluate_rate
    from ..tokenizer.codec import load_codec

    evaluate_rate(
        folder,
        out,
        codec=load_codec(codec),
        entropy=entropy or (),
        fine=fine or (),
        chunk_frames=chunk_frames,
        limit=limit,
        baselines=BASELINES if baselines is None else baselines,
    )
    typer.echo(out)


@evaluation.command("loss")
def evaluate_loss_command(
    folder: Annotated[Path, typer.Argument(help="Recordings, or a manifest of `prepare`.")],
    out: Annotated[Path, typer.Argument(help="Report folder.")],
    codec: CodecFolder = None,
    loss: Annotated[
        list[str] | None,
        typer.Option(
            help="A network, as for `transmit`; may be repeated. 0 to 0.3, wlan and outages if not given."
        ),
    ] = None,
    link: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROFILE[:CONCEALMENT]",
            help="A way of ours; may be repeated. no-copies is a profile too; :model:hung drops fine codes "
            "beside lost frames.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of each network.")] = 5,
    limit: Limit = None,
    baselines: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Other codecs: opus,amr-wb if not given, none if empty."),
    ] = None,
    rate_of: Annotated[
        str, typer.Option(help="Profile whose total rate other codecs are given.")
    ] = "redundant-30",
) -> None:
    """Measure how speech sounds where packets are lost, beside Opus and AMR-WB at the same total rate."""
    from ..eval.loss import BASELINES, LINKS, LOSSES, evaluate_loss
    from ..tokenizer.codec import load_codec

    evaluate_loss(
        folder,
        out,
        codec=load_codec(codec),
        losses=loss or LOSSES,
        links=link or LINKS,
        baselines=BASELINES if baselines is None else baselines,
        rate_of=rate_of,
        num_seeds=seeds,
        limit=limit,
    )
    typer.echo(out)


@evaluation.command("tts")
def evaluate_tts_command(
    listing: Annotated[
        Path, typer.Argument(metavar="LIST", help='JSON lines: {"text": …, "prompt": …}.')
    ],
    out: Annotated[Path, typer.Argument(help="Report folder.")],
    model: Annotated[
        Path | None, typer.Option(help="Model folder; the shipped models if not given.")
    ] = None,
    limit: Limit = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Sentences spoken at once; 1 gives the speed of `say`.")
    ] = 8,
    candidates: Annotated[
        int, typer.Option(min=1, help="Takes of each sentence; the best is kept.")
    ] = 1,
    keep_sounds: Annotated[
        bool, typer.Option("--keep-sounds", help="Write every sentence to sounds/.")
    ] = False,
    precision: Annotated[
        Literal["fp32", "bf16", "int8"],
        typer.Option(help="Of the weights; only in fp32 does a batch say what `say` does."),
    ] = "fp32",
    seed: Seed = 0,
) -> None:
    """Measure spoken sentences: word errors, similarity to the prompt, speed."""
    from ..eval.tts import evaluate_tts
    from ..slm.speak import Speaker

    report = evaluate_tts(
        listing,
        out,
        speaker=Speaker.from_pretrained(model, precision=precision),
        limit=limit,
        seed=seed,
        batch_size=batch_size,
        num_candidates=candidates,
        keep_sounds=keep_sounds,
    )
    for row in report["tables"]["systems"]:
        told = (f"{name} {row[name]:.3g}" for name in _TOLD if row.get(name) is not None)
        typer.echo(f"{row['system']}: {', '.join(told)}")
    for note in report["notes"]:
        typer.echo(note, err=True)
    typer.echo(out)


@evaluation.command("list")
def make_list_command(
    manifest: Annotated[
        str,
        typer.Argument(
            help="Held-out speech as `prepare` wrote it; `shipped` voices for hard or given sentences."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="JSON lines for `eval tts`.")],
    protocol: Annotated[
        Literal["cross", "continual", "hard"],
        typer.Option(help="Of VALL-E's paper, or the 200 hard sentences."),
    ] = "cross",
    sentences: Annotated[
        Path | None,
        typer.Option(
            help="What to say, a sentence a line or JSON lines with a `text`, where the recordings have no "
            "transcripts or one voice each."
        ),
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Sentences: 20, of hard all.")] = None,
    split: Annotated[str, typer.Option(help="Which split the voices come from.")] = "valid",
    references: Annotated[
        Path | None, typer.Option(help="Recordings of the hard sentences, named by their ids.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Draw sentences and prompts for `eval tts`."""
    from ..errors import ConfigError, MissingExtra
    from ..eval.protocols import make_list
    from ..eval.recognizer import Recognizer
    from ..eval.sentence_lists import make_given_list, make_hard_list

    voices = None if manifest == "shipped" else Path(manifest)
    if references is not None and protocol != "hard":
        raise ConfigError("Only the hard sentences take --references; the others have theirs.")
    if sentences is not None and protocol != "cross":
        raise ConfigError("--sentences goes with --protocol cross; the others have theirs.")
    if protocol == "hard":
        found = make_hard_list(
            out, voices, count=count, split=split, seed=seed, references=references
        )
    elif sentences is not None:
        found = make_given_list(out, sentences, voices, count=count or 20, split=split, seed=seed)
    elif voices is None:
        raise ConfigError(
            "The shipped voices have no further recordings; name what they shall say with --sentences, or a "
            "manifest."
        )
    else:
        recognizer = None
        if protocol == "continual":
            try:
                recognizer = Recognizer.find()
            except MissingExtra as error:  # needed only where there are no durations
                typer.echo(str(error), err=True)
        found = make_list(
            voices,
            out,
            protocol=protocol,
            count=count or 20,
            split=split,
            seed=seed,
            recognizer=recognizer,
        )
    typer.echo(f"{out}: {len(found)} sentences")


@evaluation.command("summary")
def summarise_command(
    out: Annotated[Path, typer.Argument(help="The page to write, Markdown.")],
    reports: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=FOLDER...",
            help="Reports of `eval`; those of one name, such as seeds, are averaged.",
        ),
    ],
) -> None:
    """Write several reports as one page of tables."""
    from ..errors import ConfigError
    from ..eval.summary import summarise

    named = []
    for report in reports:
        name, equals, folder = report.partition("=")
        if not (name and equals and folder):
            raise ConfigError(f"{report} is not NAME=FOLDER, such as people=report-tts.")
        named.append((name, Path(folder)))
    typer.echo(summarise(named, out))
    typer.echo(out)


@evaluation.command("probes")
def evaluate_probes_command(
    folder: Annotated[Path, typer.Argument(help="Folder or manifest that `prepare` wrote.")],
    out: Annotated[Path, typer.Argument(help="Report folder.")],
    codec: CodecFolder = None,
    limit: Annotated[
        int | None, typer.Option(min=2, help="Use at most so many utterances.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Measure what a codec's books carry: linear phoneme and speaker probes."""
    from ..eval.probes import evaluate_probes
    from ..tokenizer.codec import load_codec

    evaluate_probes(folder, out, codec=load_codec(codec), limit=limit, seed=seed)
    typer.echo(out)


@app.command(hidden=True)
def demo(out: Annotated[Path, typer.Argument(help="Folder for the demo.")]) -> None:
    """Speak one embedded sentence in a shipped voice and measure it: what `make demo` runs."""
    from ..eval.demonstrate import demonstrate

    typer.echo(json.dumps(demonstrate(out), indent=2))


@app.command(hidden=True)
def tiny(out: Annotated[Path, typer.Argument(help="Folder for everything.")]) -> None:
    """Walk the whole road on self-made signals, from corpus to speech: what `make tiny` runs."""
    from ..eval.tiny import walk_tiny_road

    walk_tiny_road(out, typer.echo)
