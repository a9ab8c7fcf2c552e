"""A tiny codec with every model that its `.lmc` streams can have, in files, and a few recordings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tiny_codecs import tiny_codec, voice
from tiny_transmission import entropy_model, fine_model

from speechlm.tokenizer.audio import write_audio
from speechlm.tokenizer.codec import CodecModel
from speechlm.transmission.integer_quantize import quantize
from speechlm.transmission.static_learning import learn_static_table

RATE = 16_000


@dataclass(frozen=True)
class Models:
    """Where they lie, and the codec itself."""

    codec: CodecModel
    codec_folder: Path
    table: Path
    entropy: Path
    fine: Path


def tiny_models(folder: Path) -> Models:
    """The table is learned, the networks are not trained: their bits are many, but bits."""
    codec = tiny_codec()
    found = Models(codec, *(folder / name for name in ("codec", "table.st", "entropy", "fine")))
    codec.save_pretrained(found.codec_folder)
    codes = codec.tokenize([voice(6 * RATE, pitch=110 + 10 * n, seed=n) for n in range(3)])
    table = learn_static_table((codes.item(n).numpy() for n in range(3)), codec.identity, 8)
    table.save(found.table)
    quantize(entropy_model(codec=codec.identity, sharpness=1.0)).save(found.entropy)
    quantize(fine_model(codec=codec.identity)).save(found.fine)
    return found


def tiny_recordings(folder: Path, count: int = 3, seconds: float = 0.7) -> Path:
    """Recordings of which all but the last have a transcript."""
    folder.mkdir()
    for number in range(count):
        samples = voice(
            round((seconds + 0.31 * number) * RATE), pitch=120 + 9 * number, seed=number
        )
        write_audio(folder / f"{number}.wav", samples, RATE)
        if number < count - 1:
            (folder / f"{number}.txt").write_text("Hello there")
    return folder
