"""The codec on single files: `encode`, `decode` and `export-onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import CorruptCodes
from .options import CodecFolder, NumBooks

app = typer.Typer(rich_markup_mode=None)


@app.command()
def encode(
    audio: Annotated[Path, typer.Argument(metavar="IN", help="Recording of any format and rate.")],
    out: Annotated[Path, typer.Argument(help="File to write, usually OUT.codes.")],
    codec: CodecFolder = None,
    num_books: NumBooks = None,
) -> None:
    """Turn one recording into codec tokens."""
    from ..tokenizer.paths import require_model_folder, require_recording, require_target

    require_recording(audio)
    require_target(out)
    require_model_folder(codec)
    from ..tokenizer.audio import read_audio
    from ..tokenizer.codec import load_codec

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
    from ..tokenizer.paths import require_audio_target, require_file, require_model_folder

    require_file(codes, CorruptCodes, "a file written by `speechlm encode`")
    require_audio_target(out)
    require_model_folder(codec)
    from ..tokenizer.audio import write_audio
    from ..tokenizer.codec import load_codec
    from ..tokenizer.codes import Codes

    tokens = Codes.load(codes)
    if len(tokens.num_samples) != 1:
        raise CorruptCodes(f"{codes} holds {len(tokens.num_samples)} utterances; decode takes one.")
    model = load_codec(codec)
    waveform = model.synthesize(tokens)[0]
    write_audio(out, waveform, model.config.sampling_rate)
    typer.echo(f"{out}: {len(waveform) / model.config.sampling_rate:.2f} s")


@app.command("export-onnx")
def export_onnx_command(
    out: Annotated[Path, typer.Argument(help="Folder for encoder.onnx, decoder.onnx, onnx.json.")],
    codec: CodecFolder = None,
) -> None:
    """Turn a codec into ONNX files, for runtimes without torch."""
    from ..tokenizer.codec import load_codec
    from ..tokenizer.onnx_export import export_onnx

    export_onnx(load_codec(codec), out)
    typer.echo(out)
