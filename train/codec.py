"""Codec training: random crops of packed audio, multi-scale mel loss, pitch and voicing of the source."""

from __future__ import annotations

import hashlib
import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ..data_prep.packs import (
    FULL_SCALE,
    PITCH_FRAMES_PER_SECOND,
    WaveformPack,
    pack_waveforms,
)
from ..errors import ConfigError
from ..tokenizer.codec import CodecModel, CodecOutput
from ..tokenizer.config import CodecConfig
from ..tokenizer.model_folder import config_from_mapping
from .adversary import Adversary
from .batches import Draw
from .codec_recipe import CodecTraining, PackData
from .mel_loss import MULTI, MULTI_FLOOR, SINGLE, SINGLE_FLOOR, log_mel_distance
from .start import load_discriminators, start_codec
from .task import Batch, Validation

_INITIAL_CROPS_PER_BOOK_ENTRY = 12  # latent vectors per codebook entry that k-means starts from


@dataclass
class Crop:
    """A piece of one utterance: float32 `[L]`, pitch and voicing `[T * upsampling]`.

    What the codec hears, `heard`, is the waveform, or that waveform under hum.
    """

    waveform: NDArray[np.float32]
    heard: NDArray[np.float32]
    pitch_hz: NDArray[np.float32]
    voicing: NDArray[np.float32]


def fill_pitch(pitch_hz: NDArray[np.float32], default: float = 120.0) -> NDArray[np.float32]:
    """Bridge unvoiced stretches (zeros) in log frequency: the source's phase needs a pitch everywhere."""
    voiced = np.flatnonzero(pitch_hz > 0)
    if not len(voiced):
        return np.full_like(pitch_hz, default)
    filled = np.interp(np.arange(len(pitch_hz)), voiced, np.log(pitch_hz[voiced]))
    return np.exp(filled).astype(np.float32)


def mains_hum(
    waveform: NDArray[np.float32], sampling_rate: int, chance: random.Random
) -> NDArray[np.float32]:
    """Hum of the mains for a waveform `[L]`: 50 or 60 Hz, give or take, and weaker overtones.

    The fundamental lies 0 to 40 dB under the waveform's level. Recordings made near a transformer
    carry it below what a laptop plays, so that their owners do not know.
    """
    base = chance.choice((50.0, 60.0)) + chance.uniform(-0.5, 0.5)
    level = math.sqrt(2 * float(np.mean(np.square(waveform)))) * 10 ** (chance.uniform(-40, 0) / 20)
    time = np.arange(len(waveform), dtype=np.float64) / sampling_rate
    hum = np.zeros(len(waveform))
    for overtone in (1, 2, 3):
        angle = 2 * math.pi * (base * overtone * time + chance.random())
        hum += level * np.sin(angle)
        level *= 10 ** (chance.uniform(-30, -6) / 20)
    return hum.astype(np.float32)


class CodecTask:
    """The codec with its packs and losses; see `task.Task` for the methods."""

    def __init__(self, config: CodecTraining, *, progress: bool = True) -> None:
        self.config = config
        torch.manual_seed(config.run.seed)
        self.model = self._first_model()
        # weights that come with codebooks need no continuous steps and no k-means
        has_codebooks = bool(self.model.quantizer.is_initialised)
        if config.trains == "decoder":
            if not has_codebooks:
                raise ConfigError(
                    "`trains: decoder` goes on from a codec whose codebooks are set; give --from "
                    "with one, or `shipped`."
                )
            self.model.freeze_codes()
        self.continuous_steps = 0 if has_codebooks else config.continuous_steps
        self.adversary = None if config.adversarial is None else Adversary(config.adversarial)
        self.has_discriminators = (
            self.adversary is not None
            and config.start_from is not None
            and load_discriminators(self.adversary, config.start_from)
        )
        self.crop = self._whole_frames(config.crop_seconds)
        self.max_total = max(1, round(config.batch_seconds / config.crop_seconds)) * self.crop
        self.train_packs = [self._pack(data, "train", progress) for data in config.data]
        self.valid_packs = [self._pack(data, "valid", progress) for data in config.data]
        # every second of audio is as likely as any other: an utterance gives as many crops as it holds
        self.places = [
            (number, index)
            for number, (data, pack) in enumerate(zip(config.data, self.train_packs, strict=True))
            for index, length in enumerate(pack.lengths.tolist())
            for _ in range(data.repeat * -(-length // self.crop))
        ]
        self.lengths = [self.crop] * len(self.places)
        self.fingerprint = hashlib.sha256(
            json.dumps([[pack.ids, pack.lengths.tolist()] for pack in self.train_packs]).encode()
        ).hexdigest()

    def _first_model(self) -> CodecModel:
        config = self.config
        described = config_from_mapping(config.model, CodecConfig, "The section `model`")
        if config.start_from is None:
            model = CodecModel(described)
            model.quantizer.is_initialised.fill_(False)
            return model
        return start_codec(config.start_from, config.model, config.batch_seconds)

    def _whole_frames(self, seconds: float) -> int:
        hop = self.model.config.hop_length
        return max(1, round(seconds * self.model.config.sampling_rate / hop)) * hop

    def _pack(self, data: PackData, split: str, progress: bool) -> WaveformPack:
        config = self.model.config
        manifest = Path(data.manifest)
        name = hashlib.sha256(str(manifest.resolve()).encode()).hexdigest()[:8]
        return pack_waveforms(
            manifest,
            Path(self.config.cache)
            / f"{manifest.parent.name}-{name}-{config.sampling_rate}-{split}",
            sampling_rate=config.sampling_rate,
            split=split,
            with_pitch=config.has_harmonic_source,
            progress=progress,
        )

    def _cut(self, pack: WaveformPack, index: int, start: int, length: int) -> Crop:
        """Samples `[start, start + length)` of an utterance, zero-padded, with their pitch."""
        config = self.model.config
        hop = config.synthesis_hop
        samples = pack.waveform(index)[start : start + length]
        waveform: NDArray[np.float32] = np.zeros(length, np.float32)
        waveform[: len(samples)] = samples / np.float32(FULL_SCALE)
        points = length // hop
        if not config.has_harmonic_source:
            none = np.zeros(points, np.float32)
            return Crop(waveform, waveform, none, none)
        # the track's entry around each ISTFT hop's centre; the default codec's hops are the track's own
        tracked = pack.pitch(index)
        centres = start + hop * np.arange(points) + hop // 2
        places = centres * PITCH_FRAMES_PER_SECOND // pack.sampling_rate
        track = np.where(
            places < len(tracked), tracked[np.minimum(places, len(tracked) - 1)], np.float32(0)
        )
        low, high = config.min_pitch_hz, config.max_pitch_hz
        pitch = fill_pitch(track).clip(low, high)
        return Crop(waveform, waveform, pitch, (track > 0).astype(np.float32))

    def item(self, draw: Draw) -> Crop:
        """A random crop, on the frame grid, at a random level."""
        chance = random.Random(draw.seed)
        number, index = self.places[draw.index]
        pack = self.train_packs[number]
        spare = max(0, int(pack.lengths[index]) - self.crop)
        hop = self.model.config.hop_length
        start = chance.randint(0, spare // hop) * hop
        crop = self._cut(pack, index, start, self.crop)
        gain = 10 ** (chance.uniform(-self.config.gain_db, self.config.gain_db) / 20)
        crop.waveform = crop.waveform * min(gain, 1 / max(1e-3, float(np.abs(crop.waveform).max())))
        crop.heard = crop.waveform
        if chance.random() < self.config.hum_share:
            crop.heard = crop.waveform + mains_hum(crop.waveform, pack.sampling_rate, chance)
        return crop

    def collate(self, items: list[Crop]) -> Batch:
        """`waveform` and `heard` `[B, L]`, `pitch_hz` and `voicing` `[B, T * upsampling]`."""
        return {
            name: torch.from_numpy(
                np.stack([getattr(crop, name) for crop in items]).astype(np.float32)
            )
            for name in ("waveform", "heard", "pitch_hz", "voicing")
        }

    def before_step(self, step: int) -> None:
        """After the continuous steps, set the codebooks by k-means on latents of seeded crops."""
        source = self.config.start_from
        # only here is it known that the run is new: a resumed one has its own discriminators
        if step == 0 and self.adversary is not None and source and not self.has_discriminators:
            tqdm.write(f"{source} has no such discriminators: they start untrained.")
        quantizer = self.model.quantizer
        if step < self.continuous_steps or bool(quantizer.is_initialised):
            return
        frames = self.crop // self.model.config.hop_length
        needed = _INITIAL_CROPS_PER_BOOK_ENTRY * self.model.config.codebook_size
        chance = random.Random(self.config.run.seed)
        found: list[Tensor] = []
        device = next(self.model.parameters()).device
        with torch.no_grad():
            while sum(len(part) for part in found) < needed:
                crops = [
                    self.item(Draw(chance.randrange(len(self.places)), chance.getrandbits(48)))
                    for _ in range(self.max_total // self.crop)
                ]
                waveform = self.collate(crops)["heard"].to(device)
                mask = torch.ones(len(crops), frames, 1, dtype=torch.bool, device=device)
                found.append(self.model.encoder(waveform, mask).float().flatten(0, 1))
        quantizer.initialise(torch.cat(found), seed=self.config.run.seed)

    def _draw_books(self, batch: int, device: torch.device) -> Tensor:
        """Books used by each item (quantizer dropout, an item at a time)."""
        most = self.model.config.num_codebooks
        fewest = max(1, self.model.config.num_masked_books)
        books = torch.randint(fewest, most + 1, (batch,), device=device)
        return torch.where(
            torch.rand(batch, device=device) < self.config.full_books_share, most, books
        )

    def loss(self, model: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Mel distance, commitment, for the source pitch and voicing, and what the adversary asks."""
        config = self.config
        waveform, pitch, voicing = batch["waveform"], batch["pitch_hz"], batch["voicing"]
        books = self._draw_books(len(waveform), waveform.device)
        own_pitch = (
            step >= self.continuous_steps and float(torch.rand(())) < config.predicted_pitch_share
        )
        out: CodecOutput = model(
            batch["heard"],
            num_books=books,
            pitch_hz=None if own_pitch else pitch,
            voicing=None if own_pitch else voicing,
            noise_seed=int(torch.randint(1 << 30, ())),
        )
        if out.audio_values is None or out.commitment_loss is None:
            raise ConfigError("The codec returned no audio.")
        with torch.autocast(waveform.device.type, enabled=False):
            multi = config.mel_scales == "multi"
            mel = log_mel_distance(
                out.audio_values.float(),
                waveform,
                self.model.config.sampling_rate,
                MULTI if multi else SINGLE,
                MULTI_FLOOR if multi else SINGLE_FLOOR,
                config.mel_loudness,
            )
            parts = {"mel": mel, "commitment": out.commitment_loss.float()}
            total = config.mel_weight * mel + config.commitment_weight * parts["commitment"]
            if out.log_pitch is not None and out.voicing_logit is not None:
                missed = (out.log_pitch.float() - pitch.log()).abs() * voicing
                parts["pitch"] = missed.sum() / voicing.sum().clamp(min=1)
                parts["voicing"] = F.binary_cross_entropy_with_logits(
                    out.voicing_logit.float(), voicing
                )
                total = (
                    total
                    + config.pitch_weight * parts["pitch"]
                    + config.voicing_weight * parts["voicing"]
                )
        if config.adversarial is not None and step >= config.adversarial.start_step:
            asked, more = self.adversary.codec_loss(waveform, out.audio_values, step)  # type: ignore[union-attr]
            total, parts = total + asked, parts | more
        return total, parts

    def _validation_crops(self) -> list[Crop]:
        """Fixed utterances, evenly spread over the validation packs, at most five seconds of each."""
        chosen = []
        share = max(1, self.config.validation_items // len(self.valid_packs))
        hop = self.model.config.hop_length
        for pack in self.valid_packs:
            for index in (
                np.linspace(0, pack.num_items - 1, min(share, pack.num_items)).astype(int).tolist()
            ):
                seconds = min(5.0, int(pack.lengths[index]) / pack.sampling_rate)
                length = max(hop, int(seconds * pack.sampling_rate) // hop * hop)
                chosen.append(self._cut(pack, index, 0, length))
        return chosen

    def validate(self, model: nn.Module) -> Validation:
        """Mel distance at the fewest and the most books, pitch error, and perplexity of each book."""
        if not isinstance(model, CodecModel):
            raise ConfigError("Codec training validates a CodecModel.")
        config = model.config
        metrics: dict[str, list[float]] = {}
        counts = torch.zeros(config.num_codebooks, config.codebook_size)
        audio: dict[str, np.ndarray[Any, Any]] = {}
        device = next(model.parameters()).device
        for number, crop in enumerate(self._validation_crops()):
            waveform = torch.from_numpy(crop.waveform)[None].to(device)
            fewest = max(1, config.num_masked_books)
            for name, books in (("mel", config.num_codebooks), ("mel_fewest_books", fewest)):
                out: CodecOutput = model(waveform, num_books=books)
                decoded, found = out.audio_values, out.audio_codes
                if decoded is None or found is None:
                    raise ConfigError("The codec returned no audio.")
                distance = log_mel_distance(decoded, waveform, config.sampling_rate)
                metrics.setdefault(name, []).append(float(distance))
                if books != config.num_codebooks:
                    continue
                for book, codes in enumerate(found[0].cpu()):
                    counts[book] += torch.bincount(codes, minlength=config.codebook_size)
                if out.log_pitch is not None and crop.voicing.any():
                    voiced = crop.voicing > 0
                    missed = np.abs(out.log_pitch[0].float().cpu().numpy() - np.log(crop.pitch_hz))[
                        voiced
                    ]
                    metrics.setdefault("pitch_error_percent", []).append(
                        100 * float(np.median(missed))
                    )
                if number < 2:
                    audio[f"decoded-{number}"] = decoded[0].float().cpu().numpy()
        means = {name: float(np.mean(values)) for name, values in metrics.items()}
        shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
        entropy = -(shares * shares.clamp(min=1e-12).log()).sum(1)
        means |= {
            f"perplexity_book_{book + 1}": float(value.exp()) for book, value in enumerate(entropy)
        }
        return Validation(means, audio, config.sampling_rate)
