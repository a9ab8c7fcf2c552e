"""Speech in few bits: `compress`, `decompress`, `info` and `static-table`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import typer

from ..errors import CorruptStream, CorruptWeights
from .options import CodecFolder

app = typer.Typer(rich_markup_mode=None)

DAMAGED = 3  # exit status where a file is damaged but was read: 1 says that nothing was done

_Model = Annotated[
    Path | None,
    typer.Option(
        "--model", help="File of `static-table`, or an entropy model's folder; else what ships."
    ),
]


@app.command()
def compress(
    audio: Annotated[Path, typer.Argument(metavar="IN", help="Recording of any format and rate.")],
    out: Annotated[Path, typer.Argument(help="File to write, usually OUT.lmc.")],
    bitrate: Annotated[
        float | None,
        typer.Option(
            min=1, help="Send as many books as fit without entropy coding; else the base books."
        ),
    ] = None,
    chunk_frames: Annotated[
        int, typer.Option(min=1, max=255, help="Frames that are coded, and lost, together.")
    ] = 50,
    model: _Model = None,
    raw: Annotated[bool, typer.Option("--raw", help="Code without a model.")] = False,
    codec: CodecFolder = None,
) -> None:
    """Compress a recording into an .lmc file, which decodes on any machine."""
    if raw and model is not None:
        raise typer.BadParameter("--raw codes without a model; leave --model out.")
    from ..tokenizer.paths import require_model_folder, require_recording, require_target

    require_recording(audio)
    require_target(out)
    require_model_folder(codec)
    _require_entropy_model(model)
    from ..tokenizer.audio import read_audio
    from ..tokenizer.codec import load_codec
    from ..tokenizer.files import write_atomically
    from ..transmission.compressor import Compressor, books_of_bitrate
    from ..transmission.info import describe_stream
    from ..transmission.models import load_entropy_model
    from ..transmission.symbol_model import SymbolModel, UniformModel

    loaded = load_codec(codec)
    identity = loaded.identity
    books = identity.min_codebooks if bitrate is None else books_of_bitrate(identity, bitrate)
    entropy_model: SymbolModel | None = None
    if model is not None:
        entropy_model = load_entropy_model(model, identity, books)
    elif raw:
        entropy_model = UniformModel(books, identity.codebook_size)
    waveform = read_audio(audio, loaded.config.sampling_rate)
    compressor = Compressor(
        loaded, books, model=entropy_model, chunk_frames=chunk_frames, num_samples=len(waveform)
    )
    pieces = [compressor.push(waveform), compressor.flush()]
    write_atomically(out, b"".join(pieces))
    told = describe_stream(out)
    typer.echo(
        f"{out}: {told.seconds:.2f} s in {told.num_bytes} bytes, {told.bits_per_second:.0f} bits per "
        f"second; {told.raw_bits_per_second:.0f} without entropy coding and container"
    )
    if compressor.model.numeric_profile == "uniform" and not raw:
        typer.echo(
            "no entropy model ships for this codec: `speechlm static-table` learns one", err=True
        )


@app.command()
def decompress(
    stream: Annotated[Path, typer.Argument(metavar="IN", help="File that `compress` wrote.")],
    out: Annotated[Path, typer.Argument(help="Audio file; the suffix chooses the format.")],
    start: Annotated[float, typer.Option(min=0.0, help="Begin at this second.")] = 0.0,
    seconds: Annotated[
        float | None, typer.Option(help="Decode so many seconds, and read no more than these.")
    ] = None,
    model: _Model = None,
    fine: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a fine model, which fills in the books not sent; else what ships."
        ),
    ] = None,
    sent_only: Annotated[
        bool, typer.Option("--sent-only", help="Play the sent books alone, without a fine model.")
    ] = False,
    codec: CodecFolder = None,
) -> None:
    """Turn an .lmc file back into a recording; exit 3 if it is damaged.

    Damaged chunks are concealed, a missing end is left out, both are told on stderr, and the others decode.
    """
    if sent_only and fine is not None:
        raise typer.BadParameter("--sent-only plays without a fine model; leave --fine out.")
    from ..tokenizer.paths import require_audio_target, require_file, require_model_folder

    require_file(stream, CorruptStream, "a file that `speechlm compress` wrote")
    require_audio_target(out)
    require_model_folder(codec)
    require_model_folder(fine)
    _require_entropy_model(model)
    import torch

    from ..tokenizer.audio import write_audio
    from ..tokenizer.codec import load_codec
    from ..transmission.decompressor import Decompressor
    from ..transmission.info import blocks, read_header
    from ..transmission.integer_fine import IntegerFineModel
    from ..transmission.models import load_entropy_model, shipped_fine_model
    from ..transmission.seeking import decompress_part

    loaded = load_codec(codec)
    entropy_model = None if model is None else load_entropy_model(model)
    header = read_header(stream)
    if fine is not None:
        fine_model: IntegerFineModel | None = IntegerFineModel.load(fine)
    elif header is None or sent_only:
        fine_model = None
    else:
        fine_model = shipped_fine_model(header.codec, header.num_books)
    if start or seconds is not None:
        wanted = math.inf if seconds is None else seconds
        waveform, damages = decompress_part(
            loaded, stream, start, wanted, entropy_model, fine_model
        )
    else:
        decompressor = Decompressor(loaded, entropy_model, fine=fine_model)
        samples = [decompressor.push(block) for block in blocks(stream)]
        waveform = torch.cat([*samples, decompressor.flush()])
        damages = decompressor.damages
    write_audio(out, waveform, loaded.config.sampling_rate)
    rate = loaded.config.sampling_rate
    typer.echo(f"{out}: {len(waveform) / rate:.2f} s")
    for damage in damages:
        typer.echo(damage.reason, err=True)
    if damages:
        concealed = sum(damage.num_samples for damage in damages) / rate
        lost = sum(damage.num_lost for damage in damages) / rate
        unknown = " and an end of unknown length" if any(d.is_open for d in damages) else ""
        typer.echo(
            f"speechlm: {stream} is damaged: {concealed:.2f} s are concealed, {lost:.2f} s{unknown} "
            "left out.",
            err=True,
        )
        raise typer.Exit(DAMAGED)


@app.command()
def info(
    stream: Annotated[Path, typer.Argument(metavar="FILE", help="File that `compress` wrote.")],
    as_json: Annotated[bool, typer.Option("--json", help="Say it as JSON.")] = False,
) -> None:
    """Tell what an .lmc file holds; exit 3 if any of it is damaged."""
    from ..transmission.info import describe_stream

    told = describe_stream(stream)
    typer.echo(json.dumps(told.to_dict(), indent=1) if as_json else told.text())
    if told.damages:
        raise typer.Exit(DAMAGED)


@app.command("static-table")
def static_table(
    tokens: Annotated[Path, typer.Argument(help="Folder that `tokenize` wrote.")],
    out: Annotated[Path, typer.Argument(help="File to write, usually OUT.safetensors.")],
    num_classes: Annotated[
        int, typer.Option(min=1, help="Tables of a book; more need more speech to learn from.")
    ] = 128,
) -> None:
    """Learn how a codec's codes follow each other, for `compress --model`: no network, only integers."""
    from ..data_prep.shards import TokenShards
    from ..transmission.static_learning import learn_static_table

    shards = TokenShards(tokens, split="train")
    rows = (shards.row(index).codes.numpy() for index in range(len(shards)))
    table = learn_static_table(rows, shards.identity, num_classes)
    table.save(out)
    sizes = ", ".join(str(len(book.table)) for book in table.books)
    typer.echo(f"{out}: {table.num_books} books with {sizes} tables, {table.fingerprint}")


def _require_entropy_model(path: Path | None) -> None:
    """Refuse a model that is not there; whether it is one is seen when it is loaded."""
    if path is not None and not path.exists():
        raise CorruptWeights(
            f"There is no entropy model {path}; give a file of `speechlm static-table`, or a folder "
            "of `speechlm export`."
        )
