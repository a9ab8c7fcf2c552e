"""The commands of speechlm, in the order of the road: each calls one library function.

Imports of the library stand inside the commands, so that `speechlm --help` needs no torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from . import __version__
from .errors import CorruptCodes, SpeechLMError


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
evaluation = typer.Typer(
    help="Measure a codec, its books or a speaker: `codec`, `probes` or `tts`.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(evaluation, name="eval")

CodecFolder = Annotated[
    Path | None, typer.Option("--codec", help="Codec folder; the shipped codec if not given.")
]
NumBooks = Annotated[
    int | None, typer.Option(min=1, help="Codebooks to use; all of them if not given.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Use only the first so many items.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same result.")]


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
    from .data_prep.prepare import prepare_corpus

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
    from .data_prep.tokenize import tokenize_manifest
    from .tokenizer.codec import load_codec

    summary = tokenize_manifest(
        manifest, out, codec=load_codec(codec), num_books=num_books, rows_per_shard=rows_per_shard
    )
    typer.echo(summary.table())


@app.command()
def encode(
    audio: Annotated[Path, typer.Argument(metavar="IN", help="Recording of any format and rate.")],
    out: Annotated[Path, typer.Argument(help="File to write, usually OUT.codes.")],
    codec: CodecFolder = None,
    num_books: NumBooks = None,
) -> None:
    """Turn one recording into codec tokens."""
    from .tokenizer.audio import read_audio
    from .tokenizer.codec import load_codec

    model = load_codec(codec)
    codes = model.tokenize([read_audio(audio, model.config.sampling_rate)], num_books=num_books)
    codes.save(out)
    seconds = codes.num_samples[0].item() / codes.identity.sampling_rate
    typer.echo(f"{out}: {seconds:.2f} s at {codes.bits_per_second:.0f} bits per second")


@app.command()
def decode(
    codes: Annotated[Path, typer.Argument(metavar="IN", help="File that `encode` wrote.")],
    out: Annotated[Path, typer.Argument(help="Audio file; the suffix chooses the format.")],
    codec: CodecFolder = None,
) -> None:
    """Turn codec tokens back into a recording."""
    from .tokenizer.audio import write_audio
    from .tokenizer.codec import load_codec
    from .tokenizer.codes import Codes

    tokens = Codes.load(codes)
    if len(tokens.num_samples) != 1:
        raise CorruptCodes(f"{codes} holds {len(tokens.num_samples)} utterances; decode takes one.")
    model = load_codec(codec)
    waveform = model.synthesize(tokens)[0]
    write_audio(out, waveform, model.config.sampling_rate)
    typer.echo(f"{out}: {len(waveform) / model.config.sampling_rate:.2f} s")


@app.command()
def train(
    kind: Annotated[Literal["codec", "slm"], typer.Argument(help="What to train.")],
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
            help="Fine-tune the codec of this run or codec folder, or `shipped`.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained, its size and its cost.")
    ] = False,
) -> None:
    """Train a codec or a speech language model from a recipe."""
    from .train.run import describe_training, run_training

    if dry_run:
        typer.echo(describe_training(kind, config, overrides or [], start_from).table())
        return
    typer.echo(run_training(kind, config, overrides or [], run, start_from))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run folder of `train`.")],
    out: Annotated[Path, typer.Argument(help="Folder for the model to share.")],
) -> None:
    """Turn a run into a model folder to share."""
    from .train.export import export_run

    export_run(run, out)
    typer.echo(out)


@app.command("export-onnx")
def export_onnx_command(
    out: Annotated[Path, typer.Argument(help="Folder for encoder.onnx, decoder.onnx, onnx.json.")],
    codec: CodecFolder = None,
) -> None:
    """Turn a codec into ONNX files, for runtimes without torch."""
    from .tokenizer.codec import load_codec
    from .tokenizer.onnx_export import export_onnx

    export_onnx(load_codec(codec), out)
    typer.echo(out)


@app.command()
def say(
    text: Annotated[str, typer.Argument(help="What to say.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Audio file to write.")],
    prompt: Annotated[
        str | None,
        typer.Option(
            help="Recording of the voice, or a shipped one: clara (default), isla, martin, oliver."
        ),
    ] = None,
    prompt_text: Annotated[str | None, typer.Option(help="What the prompt says.")] = None,
    seed: Seed = 0,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, help="Lower is steadier, higher is livelier.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Sample from the best so many.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Model folder; the shipped models if not given.")
    ] = None,
) -> None:
    """Speak a text in the voice of a recording.

    Clone only voices whose owners agreed to it.
    """
    from .slm.speak import Speaker, find_voice
    from .tokenizer.audio import write_audio

    voice = find_voice(prompt)  # before the models load
    sampling: dict[str, Any] = {"temperature": temperature, "top_k": top_k}
    given = {name: value for name, value in sampling.items() if value is not None}
    speaker = Speaker.from_pretrained(model)
    speech = speaker.say(text, voice, prompt_text=prompt_text, seed=seed, **given)
    write_audio(out, speech.waveform, speech.sampling_rate)
    for note in speech.notes:
        typer.echo(note, err=True)
    typer.echo(f"{out}: {speech.seconds:.2f} s in {speech.compute_seconds:.2f} s")


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
            help="Programmes to judge too: all, or some of opus,codec2,amr-wb (opus:12 for one mode).",
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
    from .eval.codec import evaluate_codec
    from .tokenizer.codec import load_codec

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


@evaluation.command("tts")
def evaluate_tts_command(
    listing: Annotated[Path, typer.Argument(metavar="LIST", help="JSON lines: text, prompt.")],
    out: Annotated[Path, typer.Argument(help="Report folder.")],
    model: Annotated[
        Path | None, typer.Option(help="Model folder; the shipped models if not given.")
    ] = None,
    limit: Limit = None,
    seed: Seed = 0,
) -> None:
    """Measure spoken sentences: word errors, similarity to the prompt, speed."""
    from .eval.tts import evaluate_tts
    from .slm.speak import Speaker

    evaluate_tts(listing, out, speaker=Speaker.from_pretrained(model), limit=limit, seed=seed)
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
    from .eval.probes import evaluate_probes
    from .tokenizer.codec import load_codec

    evaluate_probes(folder, out, codec=load_codec(codec), limit=limit, seed=seed)
    typer.echo(out)


@app.command(hidden=True)
def demo(out: Annotated[Path, typer.Argument(help="Folder for the demo.")]) -> None:
    """Speak one embedded sentence in a shipped voice and measure it: what `make demo` runs."""
    from .eval.demonstrate import demonstrate

    typer.echo(json.dumps(demonstrate(out), indent=2))


@app.command(hidden=True)
def tiny(out: Annotated[Path, typer.Argument(help="Folder for everything.")]) -> None:
    """Walk the whole road on self-made signals, from corpus to speech: what `make tiny` runs."""
    from .eval.tiny import walk_tiny_road

    walk_tiny_road(out, typer.echo)


def main() -> None:
    """Run the command line."""
    from .tokenizer.memory import keep_freed_memory

    keep_freed_memory()
    app()
