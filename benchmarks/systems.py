"""The codecs that are timed: ours and transformers' peers, each as an encode and a decode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the measuring process imports this file, and stays light
    from torch import Tensor
    from transformers import DacConfig, EncodecConfig, MimiConfig

PAPER_RECIPE = Path(__file__).resolve().parents[1] / "configs/codec-language-codec-24khz.yaml"
ENCODEC_KBPS = 6.0
MIMI_BOOKS = 8


@dataclass(frozen=True)
class System:
    """A codec as the benchmark sees it.

    Attributes:
        sampling_rate: Samples per second of its input.
        encode: float `[B, L]` to whatever its decoder takes.
        decode: That, to a waveform.
        note: What it is, for the table.
    """

    sampling_rate: int
    encode: Callable[[Tensor], Any]
    decode: Callable[[Any], Any]
    note: str


def _of_codec(model: Any, note: str) -> System:
    """The two calls of `speechlm encode` and `speechlm decode`."""
    config = model.config
    return System(
        config.sampling_rate,
        lambda waveforms: model.tokenize(list(waveforms)),
        model.synthesize,
        f"{note}, {config.sampling_rate / 1000:g} kHz, {config.frame_rate_hz:g} Hz, "
        f"{config.num_codebooks} books, {_size(model)}",
    )


def _size(model: Any) -> str:
    return f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters"


def load_ours() -> System:
    """The shipped codec, all books, harmonic source on."""
    import importlib.resources

    import torch
    from transformers import AutoModel, logging

    import speechlm.tokenizer.codec  # noqa: F401 - registers the model

    logging.disable_progress_bar()
    folder = str(importlib.resources.files("speechlm.tokenizer")) + "/weights"
    # Stored in half precision, run in single, as the commands do.
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    return _of_codec(model, "shipped weights")


def load_paper(recipe: Path = PAPER_RECIPE) -> System:
    """Language-Codec as published, with random weights."""
    import yaml

    from speechlm.tokenizer.codec import CodecModel
    from speechlm.tokenizer.config import CodecConfig
    from speechlm.tokenizer.model_folder import config_from_mapping

    values = yaml.safe_load(recipe.read_text(encoding="utf-8"))["model"]
    model = CodecModel(config_from_mapping(values, CodecConfig, recipe.name)).eval()
    return _of_codec(model, "the paper's configuration")


def load_encodec(config: EncodecConfig | None = None) -> System:
    """EnCodec at 6 kbps: 8 books at 75 Hz."""
    from transformers import EncodecConfig, EncodecModel

    model = EncodecModel(config or EncodecConfig()).eval()

    def encode(waveforms: Tensor) -> Any:
        return model.encode(waveforms[:, None], bandwidth=ENCODEC_KBPS)

    def decode(codes: Any) -> Any:
        return model.decode(codes.audio_codes, codes.audio_scales).audio_values

    rate = model.config.sampling_rate
    note = f"default configuration, {rate / 1000:g} kHz, {ENCODEC_KBPS:g} kbps, {_size(model)}"
    return System(rate, encode, decode, note)


def load_mimi(config: MimiConfig | None = None) -> System:
    """Mimi with 8 of its 32 books, as speech language models use it."""
    from transformers import MimiConfig, MimiModel

    model = MimiModel(config or MimiConfig()).eval()

    def encode(waveforms: Tensor) -> Any:
        return model.encode(waveforms[:, None], num_quantizers=MIMI_BOOKS)

    def decode(codes: Any) -> Any:
        return model.decode(codes.audio_codes).audio_values

    rate = model.config.sampling_rate
    note = f"default configuration, {rate / 1000:g} kHz, {MIMI_BOOKS} books, {_size(model)}"
    return System(rate, encode, decode, note)


def load_dac(config: DacConfig | None = None) -> System:
    """DAC as its default configuration has it: 16 kHz, 9 books; at 24 kHz it would be slower."""
    from transformers import DacConfig, DacModel

    model = DacModel(config or DacConfig()).eval()

    def encode(waveforms: Tensor) -> Any:
        return model.encode(waveforms[:, None])

    def decode(codes: Any) -> Any:
        return model.decode(audio_codes=codes.audio_codes).audio_values

    rate, books = model.config.sampling_rate, model.config.n_codebooks
    note = f"default configuration, {rate / 1000:g} kHz, {books} books, {_size(model)}"
    return System(rate, encode, decode, note)


LOADERS: dict[str, Callable[[], System]] = {
    "ours": load_ours,
    "ours-paper": load_paper,
    "encodec": load_encodec,
    "mimi": load_mimi,
    "dac": load_dac,
}


def speech_like(num_samples: int, batch: int, sampling_rate: int) -> Tensor:
    """Voices of different pitch: harmonics up to 4 kHz, four syllables a second, noise; `[B, L]`."""
    import torch

    time_s = torch.arange(num_samples) / sampling_rate
    noise = torch.randn(batch, num_samples, generator=torch.Generator().manual_seed(0))
    syllables = 0.5 - 0.5 * torch.cos(2 * torch.pi * 4 * time_s)
    waveforms = 0.005 * noise
    for item in range(batch):
        pitch_hz = 100 + 20 * item
        # One turn holds every harmonic, so a table of it serves for all of the signal.
        turn = torch.arange(4096) / 4096
        orders = range(1, 4000 // pitch_hz + 1)
        table = torch.stack([torch.cos(2 * torch.pi * n * turn + n * n) / n for n in orders]).sum(0)
        # The pitch sways by a tenth, three times in ten seconds.
        phase = pitch_hz * (time_s + 0.05 * torch.sin(2 * torch.pi * 0.3 * time_s))
        waveforms[item] += 0.1 * syllables * table[(phase % 1 * 4096).long()]
    return waveforms
