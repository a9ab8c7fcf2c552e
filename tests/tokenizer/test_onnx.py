"""ONNX files against torch: the same codes, the same waveform, at sizes that the export never saw."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_codecs import tiny_codec, voice

from speechlm.tokenizer.codec import CodecModel, load_codec
from speechlm.tokenizer.onnx_export import export_onnx
from speechlm.tokenizer.onnx_graphs import DecoderGraph, EncoderGraph

# Rounding of the predicted pitch, which differs between kernels, becomes phase; without a source nothing
# adds up.
WITH_SOURCE, WITHOUT_SOURCE = 1e-3, 1e-5
SMALL = {"encoder_layers": 1, "decoder_layers": 1}
Run = Callable[..., np.ndarray]


@pytest.fixture
def exported(tmp_path: Path) -> Callable[[CodecModel], tuple[Run, Run]]:
    """Export a codec and give its encoder and its decoder as functions of arrays."""
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason="needs the extra `export`")
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")

    def load(name: str) -> Run:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        session = runtime.InferenceSession(str(tmp_path / f"{name}.onnx"), options)
        inputs = [value.name for value in session.get_inputs()]
        return lambda *values: session.run(None, dict(zip(inputs, values, strict=True)))[0]

    def export(codec: CodecModel) -> tuple[Run, Run]:
        export_onnx(codec, tmp_path)
        return load("encoder"), load("decoder")

    return export


def _voices(batch: int, num_samples: int) -> torch.Tensor:
    return torch.stack([voice(num_samples, 110.0 + 40 * item, item) for item in range(batch)])


def _assert_same_where_clear(codec: CodecModel, waveform: torch.Tensor, found: np.ndarray) -> None:
    """Codes equal torch's, except that of two entries equally near either may be chosen.

    Books after such a choice quantize another residual; nothing is asked of them.
    """
    hop = codec.config.hop_length
    expected = codec.encode(waveform).audio_codes
    codes = torch.from_numpy(found)
    padded = torch.nn.functional.pad(waveform, (0, -waveform.shape[1] % hop))
    frames = padded.shape[1] // hop
    with torch.inference_mode():
        residual = codec.encoder(padded, torch.ones(len(waveform), frames, 1, dtype=torch.bool))
    equal_so_far = torch.ones(len(waveform), frames, dtype=torch.bool)
    for book, entries in enumerate(codec.quantizer.codebooks):
        seen = codec.quantizer.channels(book)
        first, second = (entries[values[:, book]] for values in (expected, codes))
        near, far = ((residual - choice)[..., seen].square().sum(-1) for choice in (first, second))
        scale = residual[..., seen].square().sum(-1) + first[..., seen].square().sum(-1)
        assert bool(((far - near).abs() <= 1e-4 * scale)[equal_so_far].all())
        equal_so_far &= expected[:, book] == codes[:, book]
        residual = residual - first
    assert equal_so_far.float().mean() > 0.9


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"is_causal": False, "attention_window": 5},
        {"has_harmonic_source": False, "num_pitch_lags": 0, "num_masked_books": 0},
        {"has_harmonic_source": False, "upsampling": 1, "head_layers": 0, "fft_size": 1280},
        {"encoder": "seanet"},
        {"encoder": "seanet", "is_causal": False, "seanet_lstm_layers": 0},
    ],
    ids=str,
)
def test_graphs_compute_what_the_codec_does(changes: dict[str, Any]) -> None:
    codec = tiny_codec(**changes)
    has_source = codec.config.has_harmonic_source
    encoder, decoder = EncoderGraph(codec).eval(), DecoderGraph(codec).eval()
    for batch, num_samples in ((1, 1), (2, 3000)):
        waveform = _voices(batch, num_samples)
        with torch.inference_mode():
            codes = encoder(waveform)
            seed = (torch.tensor(3),) if has_source else ()
            decoded = decoder(codes, *seed)
        _assert_same_where_clear(codec, waveform, codes.numpy())
        expected = codec.decode(codes, noise_seed=3).audio_values
        tolerance = WITH_SOURCE if has_source else WITHOUT_SOURCE
        torch.testing.assert_close(decoded, expected, atol=tolerance, rtol=0)


def test_noise_and_gain_of_the_source_are_those_of_the_codec() -> None:
    """Where a single frame leaves phase no time to drift, the source is exact."""
    codec = tiny_codec()
    codes = torch.arange(12).view(2, 6, 1)
    with torch.inference_mode():
        one, other = (DecoderGraph(codec).eval()(codes, torch.tensor(seed)) for seed in (1, -5))
    assert not torch.allclose(one, other, atol=1e-3)
    for seed, decoded in ((1, one), (-5, other)):
        expected = codec.decode(codes, noise_seed=seed).audio_values
        torch.testing.assert_close(decoded, expected, atol=2e-5, rtol=0)


def test_onnxruntime_equals_torch_at_any_size(
    exported: Callable[[CodecModel], tuple[Run, Run]], tmp_path: Path
) -> None:
    codec = tiny_codec(**SMALL)
    encode, decode = exported(codec)
    for batch, num_samples in ((1, 1), (2, 319), (1, 320), (3, 7001)):
        waveform = _voices(batch, num_samples)
        codes = codec.encode(waveform).audio_codes
        _assert_same_where_clear(codec, waveform, encode(waveform.numpy()))
        for books in (3, 6):
            some = codes[:, :books]
            expected = codec.decode(some, noise_seed=7).audio_values.numpy()
            decoded = decode(some.numpy(), np.array(7))
            np.testing.assert_allclose(decoded, expected, atol=WITH_SOURCE, rtol=0)
    codes = np.zeros((1, 6, 4), np.int64)
    for wrong in (codec.config.codebook_size, -1, -(2**40)):  # not a code of this codec
        for book in (0, 5):
            codes[0, book, 2] = wrong
            with pytest.raises(Exception, match=r"invalid index|out of data bounds"):
                decode(codes, np.array(7))
            codes[0, book, 2] = 0
    for books in (0, 1, 2, 7):  # three masked books must be there, and there are six
        with pytest.raises(Exception, match=r"invalid|out of|bounds"):
            decode(np.zeros((1, books, 4), np.int64), np.array(7))
    about = json.loads((tmp_path / "onnx.json").read_text())
    assert about["codec"]["revision"] == codec.identity.revision
    assert about["decoder"]["inputs"]["audio_codes"] == ["batch", "books", "frames"]


@pytest.mark.slow
@pytest.mark.parametrize("is_causal", [True, False])
def test_onnxruntime_runs_the_seanet_encoder_and_the_attention_prenet(
    exported: Callable[[CodecModel], tuple[Run, Run]], is_causal: bool
) -> None:
    codec = tiny_codec(
        encoder="seanet",
        is_causal=is_causal,
        has_harmonic_source=False,
        attention_window=5,
        **SMALL,
    )
    encode, decode = exported(codec)
    for batch, num_samples in ((1, 1), (2, 7001)):
        waveform = _voices(batch, num_samples)
        codes = codec.encode(waveform).audio_codes
        _assert_same_where_clear(codec, waveform, encode(waveform.numpy()))
        expected = codec.decode(codes).audio_values.numpy()
        np.testing.assert_allclose(decode(codes.numpy()), expected, atol=WITHOUT_SOURCE, rtol=0)


@pytest.mark.slow
def test_ten_seconds_of_the_shipped_codec_are_within_one_part_in_ten_thousand(
    exported: Callable[[CodecModel], tuple[Run, Run]],
) -> None:
    codec = load_codec()
    encode, decode = exported(codec)
    waveform = _voices(1, 10 * codec.config.sampling_rate)
    codes = codec.encode(waveform).audio_codes
    _assert_same_where_clear(codec, waveform, encode(waveform.numpy()))
    expected = codec.decode(codes).audio_values.numpy()
    np.testing.assert_allclose(decode(codes.numpy(), np.array(0)), expected, atol=1e-4, rtol=0)
