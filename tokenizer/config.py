"""The codec's configuration: one dataclass for every size, rate and variant."""

# No `from __future__ import annotations` here: with it the Hub's `strict` checks no types.
from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ..errors import ConfigError

ENCODERS = ("spectral", "seanet")


@strict
class CodecConfig(PreTrainedConfig):
    """Configuration of `CodecModel`; the defaults are the shipped codec's.

    Attributes:
        codec_id: Name that codes and shards carry beside the weights' hash.
        sampling_rate: Samples per second.
        hop_length: Samples per frame; `sampling_rate / hop_length` frames per second.
        is_causal: Whether convolutions see the past only. What is heard of the future is then
            `lookahead_samples`, all of it stated by the three look-ahead fields below.
        encoder: `spectral` (STFT in, ConvNeXt at frame rate) or `seanet` (Language-Codec's).
        encoder_width, encoder_layers, kernel_size: Size of the spectral encoder's ConvNeXt stack.
        window_length: Samples of one analysis window, for mels and for pitch evidence.
        num_subframes: Analysis windows per frame.
        num_mels: Mel bands per analysis window.
        num_pitch_lags: Points of the normalised autocorrelation given to the encoder, 0 for none.
        pitch_highpass_hz: Lowest frequency that the pitch evidence hears, 0 for all: above mains hum.
        analysis_lookahead: Samples past its own subframe that a window reaches (causal only).
        encoder_lookahead: Frames that the encoder's first convolution sees ahead (causal only).
        seanet_filters, seanet_strides, seanet_lstm_layers: Size of the SEANet encoder.
        latent_size: Channels of the latent that is quantized.
        num_codebooks, codebook_size: K and V.
        num_masked_books: Leading books that quantize their own slice of the channels in parallel
            (MCRVQ); 0 gives plain RVQ.
        decoder_width, decoder_layers: ConvNeXt stack of the decoder at frame rate.
        attention_window: Frames that the decoder's attention prenet reaches over, 0 for no prenet.
        upsampling: ISTFT frames per codec frame.
        head_width, head_layers: ConvNeXt stack at the ISTFT's rate; 0 layers for none, and with no
            upsampling either, the head reads the decoder's stack directly, as in Vocos.
        expansion: Hidden width of a ConvNeXt block over its width.
        fft_size: Length of the ISTFT window.
        has_harmonic_source: Whether the Fourier decoder filters a harmonic source and noise, rather
            than predicting magnitude and phase alone.
        min_pitch_hz, max_pitch_hz: Range of the source.
        codes_fingerprint, codes_revision: Set where the decoder alone was trained on: the hash of the
            encoder's and quantizer's weights, and the revision that codes of exactly these go on to
            carry. Other weights have a revision of their own, whatever stands here.
    """

    model_type = "speechlm-codec"

    codec_id: str = "speechlm-16khz-50hz"
    sampling_rate: int = 16_000
    hop_length: int = 320
    is_causal: bool = True
    encoder: str = "spectral"
    encoder_width: int = 256
    encoder_layers: int = 5
    kernel_size: int = 7
    window_length: int = 512
    num_subframes: int = 2
    num_mels: int = 80
    num_pitch_lags: int = 64
    pitch_highpass_hz: float = 0.0
    analysis_lookahead: int = 104
    encoder_lookahead: int = 1
    seanet_filters: int = 32
    seanet_strides: list[int] | tuple[int, ...] = (2, 4, 5, 8)
    seanet_lstm_layers: int = 2
    latent_size: int = 36
    num_codebooks: int = 6
    codebook_size: int = 1024
    num_masked_books: int = 3
    decoder_width: int = 256
    decoder_layers: int = 5
    attention_window: int = 0
    upsampling: int = 4
    head_width: int = 128
    head_layers: int = 3
    expansion: int = 3
    fft_size: int = 512
    has_harmonic_source: bool = True
    min_pitch_hz: float = 60.0
    max_pitch_hz: float = 500.0
    codes_fingerprint: str = ""
    codes_revision: str = ""

    def __post_init__(self, **kwargs: object) -> None:
        """Refuse sizes that contradict each other."""
        super().__post_init__(**kwargs)
        if self.encoder not in ENCODERS:
            raise ConfigError(f"encoder is {self.encoder!r}; choose one of {', '.join(ENCODERS)}.")
        if not 0 <= self.num_masked_books <= self.num_codebooks:
            raise ConfigError(
                f"num_masked_books is {self.num_masked_books}; it must lie between 0 and "
                f"num_codebooks ({self.num_codebooks})."
            )
        if self.num_masked_books > self.latent_size:
            raise ConfigError("latent_size must give every masked book at least one channel.")
        if self.hop_length % self.upsampling or self.hop_length % self.num_subframes:
            raise ConfigError("hop_length must be a multiple of upsampling and of num_subframes.")
        if self.fft_size < self.hop_length // self.upsampling:
            raise ConfigError("fft_size must be at least one ISTFT hop (hop_length / upsampling).")
        product = 1
        for stride in self.seanet_strides:
            product *= stride
        if self.encoder == "seanet" and product != self.hop_length:
            raise ConfigError(
                f"The SEANet strides multiply to {product}, not to hop_length {self.hop_length}."
            )

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second."""
        return self.sampling_rate / self.hop_length

    @property
    def bits_per_second(self) -> float:
        """Raw bit rate of all books."""
        return self.num_codebooks * (self.codebook_size - 1).bit_length() * self.frame_rate_hz

    @property
    def synthesis_hop(self) -> int:
        """Samples between two ISTFT frames."""
        return self.hop_length // self.upsampling

    @property
    def synthesis_reach(self) -> int:
        """Samples by which an ISTFT window reaches past its own hop, on each side."""
        return (self.fft_size - self.synthesis_hop) // 2

    @property
    def encoder_lookahead_samples(self) -> int | None:
        """Samples past the end of a frame that its codes depend on; None for a non-causal model."""
        if not self.is_causal:
            return None
        if self.encoder == "seanet":
            return 0
        return self.analysis_lookahead + self.encoder_lookahead * self.hop_length

    @property
    def lookahead_samples(self) -> int | None:
        """Samples that encoder and decoder together wait for beyond a whole frame; None if not causal."""
        ahead = self.encoder_lookahead_samples
        return None if ahead is None else ahead + self.synthesis_reach

    @property
    def latency_seconds(self) -> float | None:
        """Longest time from a sample to its copy in a stream: one frame and the look-ahead."""
        ahead = self.lookahead_samples
        return None if ahead is None else (self.hop_length + ahead) / self.sampling_rate
