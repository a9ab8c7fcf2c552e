"""Speech in few bits: `compress`, `decompress`, `info` and `static-table`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import CodecFolder

if TYPE_CHECKING:
    from ..transmission.static_table import StaticTableModel

app = typer.Typer(rich_markup_mode=None)

_Table = Annotated[
    Path | None,
    typer.Option("--table", help="File of `static-table`; what ships is used if not given."),
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
    table: _Table = None,
    raw: Annotated[bool, typer.Option("--raw", help="Code without a model.")] = False,
    codec: CodecFolder = None,
) -> None:
    """Compress a recording into an .lmc file, which decodes on any machine."""
    if raw and table is not None:
        raise typer.BadParameter("--raw codes without a model; leave --table out.")
    from ..tokenizer.audio import read_audio
    from ..tokenizer.codec import load_codec
    from ..tokenizer.files import write_atomically
    from ..transmission.compressor import Compressor, books_of_bitrate
    from ..transmission.info import describe_stream
    from ..transmission.symbol_model import SymbolModel, UniformModel

    loaded = load_codec(codec)
    identity = loaded.identity
    books = identity.min_codebooks if bitrate is None else books_of_bitrate(identity, bitrate)
    model: SymbolModel | None = _table_model(table, books)
    if raw:
        model = UniformModel(books, identity.codebook_size)
    waveform = read_audio(audio, loaded.config.sampling_rate)
    compressor = Compressor(
        loaded, books, model=model, chunk_frames=chunk_frames, num_samples=len(waveform)
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
    table: _Table = None,
    codec: CodecFolder = None,
) -> None:
    """Turn an .lmc file back into a recording; damage is told on stderr and concealed."""
    import torch

    from ..tokenizer.audio import write_audio
    from ..tokenizer.codec import load_codec
    from ..transmission.decompressor import Decompressor
    from ..transmission.info import blocks

    loaded = load_codec(codec)
    decompressor = Decompressor(loaded, _table_model(table, None))
    samples = [decompressor.push(block) for block in blocks(stream)]
    waveform = torch.cat([*samples, decompressor.flush()])
    write_audio(out, waveform, loaded.config.sampling_rate)
    for damage in decompressor.damages:
        typer.echo(damage.reason, err=True)
    typer.echo(f"{out}: {len(waveform) / loaded.config.sampling_rate:.2f} s")


@app.command()
def info(
    stream: Annotated[Path, typer.Argument(metavar="FILE", help="File that `compress` wrote.")],
    as_json: Annotated[bool, typer.Option("--json", help="Say it as JSON.")] = False,
) -> None:
    """Tell what an .lmc file holds; exit 1 if any of it is damaged."""
    from ..transmission.info import describe_stream

    told = describe_stream(stream)
    typer.echo(json.dumps(told.to_dict(), indent=1) if as_json else told.text())
    if told.damages:
        raise typer.Exit(1)


@app.command("static-table")
def static_table(
    tokens: Annotated[Path, typer.Argument(help="Folder that `tokenize` wrote.")],
    out: Annotated[Path, typer.Argument(help="File to write, usually OUT.safetensors.")],
    num_classes: Annotated[
        int, typer.Option(min=1, help="Tables of a book; more need more speech to learn from.")
    ] = 128,
) -> None:
    """Learn how a codec's codes follow each other, for `compress --table`: no network, only integers."""
    from ..data_prep.shards import TokenShards
    from ..transmission.static_learning import learn_static_table

    shards = TokenShards(tokens, split="train")
    rows = (shards.row(index).codes.numpy() for index in range(len(shards)))
    table = learn_static_table(rows, shards.identity, num_classes)
    table.save(out)
    sizes = ", ".join(str(len(book.table)) for book in table.books)
    typer.echo(f"{out}: {table.num_books} books with {sizes} tables, {table.fingerprint}")


def _table_model(path: Path | None, num_books: int | None) -> StaticTableModel | None:
    """The model of a table's file; for a stream to read, the header tells the number of books."""
    from ..transmission.static_table import StaticTable, StaticTableModel

    return None if path is None else StaticTableModel(StaticTable.load(path), num_books)
