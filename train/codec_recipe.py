"""Run configuration of codec training: its corpora, its losses and its discriminators."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from .config import RunSettings, Strict


class PackData(Strict):
    """One prepared corpus for codec training.

    Attributes:
        manifest: Path of a manifest written by `speechlm prepare`.
        repeat: How often its audio is seen in an epoch.
    """

    manifest: str
    repeat: int = Field(1, ge=1)


class DiscriminatorSettings(Strict):
    """One family of discriminators; in a recipe its name alone stands for the defaults.

    Attributes:
        family: `light`, `mpd`, `mrd` or `mbstft`; see `train/discriminators.py`.
        loss: `hinge`, or `lsgan` for least squares.
        reduction: Over the sub-discriminators: `mean`, or `sum` as in DAC.
        weight: Of its terms in the codec's loss.
        channels: Of its first layers; None for the published number.
    """

    family: Literal["light", "mpd", "mrd", "mbstft"]
    loss: Literal["hinge", "lsgan"] = "hinge"
    reduction: Literal["mean", "sum"] = "mean"
    weight: float = Field(1.0, gt=0)
    channels: int | None = Field(None, ge=1)


class AdversarialSettings(Strict):
    """The adversarial part of codec training.

    Attributes:
        discriminators: Families, by name or with settings.
        start_step: First step in which the discriminators take part.
        ramp_steps: Steps in which their weight in the codec's loss then rises to the full one.
        feature_weight: Of feature matching, against the adversarial term of the same family.
        learning_rate, betas, weight_decay, clip_norm: AdamW and clipping of the discriminators.
        warmup_steps: Of their learning rate, from `start_step` on; it falls as the run's does.
        every_steps: The discriminators learn in every so many steps; the codec hears them in all.
    """

    discriminators: list[DiscriminatorSettings] = Field(min_length=1)
    start_step: int = Field(0, ge=0)
    ramp_steps: int = Field(0, ge=0)
    feature_weight: float = Field(1.0, ge=0)
    learning_rate: float = Field(2e-4, gt=0)
    betas: tuple[float, float] = (0.8, 0.99)
    weight_decay: float = Field(0.01, ge=0)
    clip_norm: float = Field(10.0, gt=0)
    warmup_steps: int = Field(0, ge=0)
    every_steps: int = Field(1, ge=1)

    @field_validator("discriminators", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [{"family": each} if isinstance(each, str) else each for each in value]


class CodecTraining(Strict):
    """`speechlm train codec`.

    Attributes:
        model: Keys of `CodecConfig`.
        data: Prepared corpora.
        cache: Folder for decoded audio and pitch tracks, made at the first start.
        crop_seconds: Length of one training crop.
        batch_seconds: Audio in one batch.
        continuous_steps: Steps before the codebooks are set by k-means; the latent passes unchanged.
        full_books_share: Share of items that use all books; the others draw a number from the masked
            count up to K.
        gain_db: Each crop's level is changed by up to this much either way.
        hum_share: Share of crops that are heard under mains hum, which is not in what they should
            become: 50 or 60 Hz and two overtones, the strongest as loud as the speech.
        mel_scales: Of the mel loss: `multi` (five windows), or `single`, the one of Vocos and
            Language-Codec (1024 samples, hop 256, 100 mels). Validation measures `multi` either way.
        mel_loudness: Power of the original's mels that weighs the gaps of the mel loss; 0 hears soft
            and loud alike.
        mel_weight, pitch_weight, voicing_weight, commitment_weight: Of the losses.
        predicted_pitch_share: Share of batches, after the continuous steps, whose source runs on the
            decoder's own pitch, as at inference.
        trains: `codec`, or `decoder` alone, on weights of `start_from`: codes stay what they are, and
            so do token datasets and models of them.
        validation_items: Utterances decoded at each validation.
        start_from: Run folder, exported codec folder, or `shipped`, whose weights the run starts
            from; `--from` sets it.
        adversarial: Discriminators and their losses; None trains without.
        run: Settings of the run.
    """

    KIND = "codec"
    model: dict[str, Any] = Field(default_factory=dict)
    data: list[PackData]
    cache: str = "runs/packs"
    crop_seconds: float = Field(1.0, gt=0)
    batch_seconds: float = Field(16.0, gt=0)
    continuous_steps: int = Field(300, ge=0)
    full_books_share: float = Field(0.5, ge=0, le=1)
    gain_db: float = Field(6.0, ge=0)
    hum_share: float = Field(0.0, ge=0, le=1)
    mel_scales: Literal["multi", "single"] = "multi"
    mel_loudness: float = Field(0.0, ge=0, le=1)
    mel_weight: float = 1.0
    pitch_weight: float = 5.0
    voicing_weight: float = 0.5
    commitment_weight: float = 0.5
    predicted_pitch_share: float = Field(0.0, ge=0, le=1)
    trains: Literal["codec", "decoder"] = "codec"
    validation_items: int = Field(16, ge=1)
    start_from: str | None = None
    adversarial: AdversarialSettings | None = None
    run: RunSettings = RunSettings()
