"""What a recipe trains, before it does: sizes, rates, look-ahead and arithmetic of the built model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..tokenizer.blocks import Carry
from ..tokenizer.codec import CodecModel
from ..tokenizer.config import CodecConfig
from ..tokenizer.model_folder import config_from_mapping
from .adversary import Adversary
from .codec_recipe import AdversarialSettings, CodecTraining
from .config import AlignerTraining, LanguageModelTraining, MaskedTraining, TransmissionTraining
from .start import start_codec

_BYTES = 4  # of a float32
# weights, gradients, two moments of AdamW; the codec has averaged weights too
_COPIES = {"discriminators": 4, "model": 5}


@dataclass(frozen=True)
class Part:
    """One part of a model.

    Attributes:
        name: As the table has it.
        parameters: Numbers in it; those of the quantizer are entries, which averages move.
        macs_per_second: Multiply-accumulates of matrix products and convolutions for one second of
            audio at inference; None where they are not counted.
        fft_macs_per_second: Of its Fourier transforms, half of 2.5 N log2 N operations for each real
            one of N samples.
    """

    name: str
    parameters: int
    macs_per_second: float | None = None
    fft_macs_per_second: float | None = None


@dataclass(frozen=True)
class CodecDescription:
    """What `speechlm train codec --dry-run` says.

    Attributes:
        config: Of the codec.
        bits_per_second: Raw bit rate for every allowed number of books.
        lookahead_seconds: What a decoded sample hears of the future past its own frame; for a model
            that is not causal, the sum over its layers, in whole frames.
        parts: Encoder, quantizer and decoder.
        discriminators: One for each family of the recipe; their arithmetic is one pass forward.
        batch_items, crop_seconds: Of one training batch.
        training_bytes: Weights, gradients, optimizer state and averages in float32; activations,
            which the batch decides, come on top.
    """

    config: CodecConfig
    bits_per_second: dict[int, float]
    lookahead_seconds: float
    parts: tuple[Part, ...]
    discriminators: tuple[Part, ...]
    batch_items: int
    crop_seconds: float
    training_bytes: int

    @property
    def parameters(self) -> int:
        """Of encoder and decoder: what an optimizer trains."""
        return sum(part.parameters for part in self.parts if part.name != "quantizer")

    @property
    def macs_per_second(self) -> float:
        """Of encoder, quantizer and decoder, transforms aside."""
        return sum(part.macs_per_second or 0.0 for part in self.parts)

    @property
    def latency_seconds(self) -> float:
        """One frame and the look-ahead."""
        return self.config.hop_length / self.config.sampling_rate + self.lookahead_seconds

    def table(self) -> str:
        """All of it, for a terminal."""
        config = self.config
        rates = ", ".join(f"{rate:g} ({books})" for books, rate in self.bits_per_second.items())
        kind = "causal" if config.is_causal else "not causal"
        facts = {
            "codec": config.codec_id,
            "sampling rate": f"{config.sampling_rate} Hz",
            "frame rate": f"{config.frame_rate_hz:g} Hz ({config.hop_length} samples)",
            "books": f"{config.num_codebooks} of {config.codebook_size} entries, "
            f"{config.num_masked_books} masked",
            "bits per second": f"{rates} by books",
            "latency": f"{1000 * self.latency_seconds:.1f} ms, {kind}, "
            f"look-ahead {1000 * self.lookahead_seconds:.1f} ms",
            "training batch": f"{self.batch_items} x {self.crop_seconds:g} s",
            "training state": f"{self.training_bytes / 2**20:.0f} MiB, activations aside",
        }
        whole = Part(
            "codec",
            sum(part.parameters for part in self.parts),
            self.macs_per_second,
            sum(part.fft_macs_per_second or 0.0 for part in self.parts),
        )
        return "\n".join([*_lines(facts), "", *_parts_table([*self.parts, whole]), *self._judges()])

    def _judges(self) -> list[str]:
        if not self.discriminators:
            return []
        return ["", *_parts_table(list(self.discriminators), "discriminators")]


@dataclass(frozen=True)
class LanguageModelDescription:
    """What `--dry-run` says of a model that is trained on token shards.

    Attributes:
        stage: `ar`, `nar` or `aligner`.
        codec_id: Codec of the shards.
        num_utterances: Rows that can be trained on.
        parts: The model's, by name of its module; arithmetic is not counted.
        batch_frames: Padded frames in one batch.
    """

    stage: str
    codec_id: str
    num_utterances: int
    parts: tuple[Part, ...]
    batch_frames: int

    @property
    def parameters(self) -> int:
        """Of the whole model."""
        return sum(part.parameters for part in self.parts)

    def table(self) -> str:
        """All of it, for a terminal."""
        facts = {
            "stage": self.stage,
            "codec": self.codec_id,
            "utterances": str(self.num_utterances),
            "training batch": f"{self.batch_frames} frames",
        }
        whole = Part("model", self.parameters)
        return "\n".join([*_lines(facts), "", *_parts_table([*self.parts, whole])])


def describe_codec(settings: CodecTraining) -> CodecDescription:
    """Build the codec and the discriminators of a recipe and count them; needs no data.

    Args:
        settings: The recipe; with `start_from` its weights are what is described.

    Raises:
        ConfigError: If the section `model` is refused.
    """
    wanted = config_from_mapping(settings.model, CodecConfig, "The section `model`")
    if settings.start_from is None:
        model = CodecModel(wanted)
    else:
        model = start_codec(settings.start_from, settings.model, settings.batch_seconds)
    model.eval()
    config: CodecConfig = model.config  # type: ignore[assignment]
    encoder, decoder, hop = model.encoder, model.decoder, config.hop_length
    ahead = config.lookahead_samples
    if ahead is None:
        ahead = (encoder.lookahead + decoder.lookahead) * hop + encoder.margins[1]
    frames = math.ceil(config.frame_rate_hz)
    crop = max(1, round(settings.crop_seconds * config.frame_rate_hz)) / config.frame_rate_hz
    parts = _codec_parts(model, frames)
    judges = _judge_parts(settings.adversarial, config.sampling_rate)
    trained = _size(encoder) + _size(decoder)
    copies = _COPIES["model"] * trained + _COPIES["discriminators"] * _sum(judges)
    # the quantizer holds entries and their running sums
    copies += 2 * parts[1].parameters
    fewest = max(1, config.num_masked_books)
    bits = (config.codebook_size - 1).bit_length() * config.frame_rate_hz
    return CodecDescription(
        config=config,
        bits_per_second={n: n * bits for n in range(fewest, config.num_codebooks + 1)},
        lookahead_seconds=ahead / config.sampling_rate,
        parts=parts,
        discriminators=judges,
        batch_items=max(1, round(settings.batch_seconds / settings.crop_seconds)),
        crop_seconds=crop,
        training_bytes=_BYTES * copies,
    )


def describe_language_model(settings: LanguageModelTraining) -> LanguageModelDescription:
    """Build the model of a recipe and count it; its shards say how many books and symbols it has.

    Raises:
        SpeechLMError: If the shards are missing or cannot be trained on.
    """
    from .slm import LanguageModelTask

    task = LanguageModelTask(settings)
    codec_id = task.model.config.codec_id
    return _token_model(settings.stage, codec_id, len(task.rows), task.model, settings.batch_frames)


def describe_aligner(settings: AlignerTraining) -> LanguageModelDescription:
    """Build the aligner of a recipe and count it.

    Raises:
        SpeechLMError: If the shards are missing or cannot be trained on.
    """
    from .aligner import AlignerTask

    task = AlignerTask(settings)
    codec_id = task.model.config.codec_id
    return _token_model("aligner", codec_id, len(task.rows), task.model, settings.batch_frames)


def describe_transmission(kind: str, settings: TransmissionTraining) -> LanguageModelDescription:
    """Build the entropy model or the fine model of a recipe and count it.

    Raises:
        SpeechLMError: If the shards are missing or cannot be trained on.
    """
    from .transmission import TransmissionTask

    task = TransmissionTask(settings)
    codec_id = task.model.config.codec_id
    return _token_model(kind, codec_id, len(task.rows), task.model, settings.batch_frames)


def describe_masked(settings: MaskedTraining) -> LanguageModelDescription:
    """Build the masked model of a recipe and count it.

    Raises:
        SpeechLMError: If the shards are missing or cannot be trained on.
    """
    from .masked import MaskedTask

    task = MaskedTask(settings)
    codec_id = task.model.config.codec_id
    return _token_model("masked", codec_id, len(task.rows), task.model, settings.batch_frames)


def _token_model(
    stage: str, codec_id: str, num_utterances: int, model: nn.Module, batch_frames: int
) -> LanguageModelDescription:
    return LanguageModelDescription(
        stage=stage,
        codec_id=codec_id,
        num_utterances=num_utterances,
        parts=tuple(
            Part(name, size) for name, child in model.named_children() if (size := _size(child))
        ),
        batch_frames=batch_frames,
    )


def _codec_parts(model: CodecModel, frames: int) -> tuple[Part, ...]:
    """Parts of the codec, with the arithmetic of `frames` frames in the middle of one signal.

    Blocks are counted once layers wait for nothing more: before that they have fewer outputs. (Attention
    makes the keys before a block anew: in longer blocks it costs a little less than is said here; signals
    decoded together share the spectrum of the source's noise.)
    """
    # not under no_grad, where products that are too thin for a matrix library are written as sums
    model.requires_grad_(False)
    config, carry = model.config, Carry()
    left, right = model.encoder.margins
    waveform = torch.zeros(1, left + frames * config.hop_length + right)
    latent = torch.zeros(1, frames, config.latent_size)
    mask = torch.ones(1, frames, 1, dtype=torch.bool)

    def encode() -> Tensor:
        return model.encoder.block(waveform, mask, carry)[0]

    def quantize() -> Tensor:
        return model.quantizer.encode(latent, mask, config.num_codebooks)

    def decode() -> Tensor:
        return model.decoder.block(latent, mask, carry)

    found = []
    sizes = (_size(model.encoder), model.quantizer.codebooks.numel(), _size(model.decoder))
    waits = (model.encoder.lookahead, 0, model.decoder.lookahead)
    runs = {"encoder": encode, "quantizer": quantize, "decoder": decode}
    for (name, run), size, wait in zip(runs.items(), sizes, waits, strict=True):
        for _ in range(1 + wait // frames):
            run()
        macs, transforms = _macs(run)
        rate = config.frame_rate_hz / frames
        found.append(Part(name, size, macs * rate, transforms * rate))
    return tuple(found)


@torch.no_grad()
def _judge_parts(settings: AdversarialSettings | None, sampling_rate: int) -> tuple[Part, ...]:
    """Discriminators by family, each with the arithmetic of one pass over a second of audio."""
    if settings is None:
        return ()
    waveform = torch.zeros(1, sampling_rate)
    found = []
    for each, family in zip(settings.discriminators, Adversary(settings).families, strict=True):
        macs, transforms = _macs(partial(_judge, list(family.children()), waveform))  # type: ignore[attr-defined]
        found.append(Part(f"{each.family} ({each.loss})", _size(family), macs, transforms))
    return tuple(found)


def _judge(members: list[nn.Module], waveform: Tensor) -> None:
    for member in members:
        member(waveform)


def _macs(run: Callable[[], Any]) -> tuple[float, float]:
    """Multiply-accumulates that `run` makes: of products and convolutions, and of Fourier transforms."""
    transforms = {torch.ops.aten._fft_r2c: _forward_cost, torch.ops.aten._fft_c2r: _inverse_cost}
    with FlopCounterMode(display=False, custom_mapping=transforms) as counter:
        run()
    counted: dict[Any, int] = counter.get_flop_counts()["Global"]
    fourier = sum(counted.get(kind, 0) for kind in transforms)
    return (sum(counted.values()) - fourier) / 2, fourier / 2


def _forward_cost(shape: torch.Size, dims: list[int], *_: Any, **__: Any) -> int:
    return _transform_cost(shape.numel(), shape[dims[-1]])


def _inverse_cost(shape: torch.Size, dims: list[int], scaling: int, length: int, **_: Any) -> int:
    return _transform_cost(shape.numel() // shape[dims[-1]] * length, length)


def _transform_cost(samples: int, length: int) -> int:
    """Operations of real transforms of `length` samples each: half of a complex one's 5 N log2 N."""
    return round(2.5 * samples * math.log2(length))


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _sum(parts: Iterable[Part]) -> int:
    return sum(part.parameters for part in parts)


def _lines(facts: dict[str, str]) -> list[str]:
    return [f"{name:<16}{value}" for name, value in facts.items()]


def _parts_table(parts: list[Part], title: str = "") -> list[str]:
    has_macs = any(part.macs_per_second is not None for part in parts)
    head = f"{title:<16}{'parameters':>12}"
    rows = [head + f"{'MAC/s':>12}{'FFT MAC/s':>12}" if has_macs else head]
    for part in parts:
        row = f"{part.name:<16}{_scaled(part.parameters):>12}"
        for value in (part.macs_per_second, part.fft_macs_per_second):
            row += "" if value is None else f"{_scaled(value):>12}"
        rows.append(row)
    return rows


def _scaled(value: float) -> str:
    """Three digits and a unit."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            digits = max(0, 2 - int(math.log10(value / size)))
            return f"{value / size:.{digits}f} {unit}"
    return f"{value:.0f}"
