"""Which coders and concealment are found, and that each does over a link what it promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_codecs import tiny_codec
from tiny_links import Listener, decoded, packets_of, random_codes
from tiny_masked import masked_model
from tiny_streams import tiny_table

from speechlm.errors import ConfigError, ModelMismatch
from speechlm.tokenizer.codec import CodecModel
from speechlm.tokenizer.model_folder import save_model
from speechlm.transmission.concealment import MaskedConcealer
from speechlm.transmission.integer_quantize import quantize_masked
from speechlm.transmission.link import models
from speechlm.transmission.link.coders import RawFineCoder, SymbolBlockCoder
from speechlm.transmission.link.concealers import RepetitionConcealer, SilenceConcealer
from speechlm.transmission.link.profile import PROFILES, LinkProfile


def test_a_codec_for_which_nothing_ships_gets_codes_as_they_are(codec: CodecModel) -> None:
    assert (
        models.shipped_fine_coder(codec.identity).fingerprint == RawFineCoder(3, 3, 16).fingerprint
    )
    assert models.shipped_base_coder(codec.identity).num_books == 3
    assert isinstance(models.load_concealer("model", codec), RepetitionConcealer)
    assert isinstance(models.load_concealer("silence", codec), SilenceConcealer)
    with pytest.raises(ConfigError, match="repeat"):
        models.load_concealer("magic", codec)


def test_a_table_of_one_s_own_codes_the_base(codec: CodecModel, tmp_path: Path) -> None:
    tiny_table(codec.identity, 3).save(tmp_path / "table.safetensors")
    coder = models.load_base_coder(tmp_path / "table.safetensors", codec.identity)
    assert isinstance(coder, SymbolBlockCoder)
    with pytest.raises(ModelMismatch):
        models.load_base_coder(tmp_path / "table.safetensors", tiny_codec(num_mels=24).identity)


@pytest.fixture(scope="module")
def folder(codec: CodecModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported masked model of the tiny codec."""
    folder = tmp_path_factory.mktemp("masked")
    model = masked_model(codec=codec.identity)
    save_model(model, folder)
    quantize_masked(model).save(folder)
    return folder


@pytest.mark.parametrize(
    "profile",
    [
        PROFILES["redundant-10"],
        LinkProfile(chunk_frames=1, base_offsets=(1, 3), fine_offsets=(1,), delay_frames=None),
        LinkProfile(interleave=2, base_offsets=(1,), delay_frames=None),
        LinkProfile(is_layered=True, fine_offsets=(1,)),
        LinkProfile(is_layered=True, has_context=False),
    ],
)
def test_the_masked_model_codes_packets_that_decode_alone(
    profile: LinkProfile, codec: CodecModel, folder: Path
) -> None:
    """Of any packets in any order, those that came decode: no context reaches beyond a packet."""
    codes = random_codes(20)
    codes[3:] = codes[:3] // 2  # so that coded blocks are shorter than raw ones, sometimes
    coder = models.load_fine_coder(folder, codec.identity)
    packets = packets_of(codec, codes, profile, fine_coder=coder)
    listener = Listener(codec, profile, fine_coder=coder)
    got = listener.play(packets, 20)
    assert torch.equal(got, decoded(codec, codes))
    for place in range(0, len(packets), 3):
        alone = Listener(codec, profile, fine_coder=coder)
        alone.receiver.push(packets[place], 0.0)
        told = alone.receiver.statistics
        assert (told.received, told.corrupt) == (1, 0)


def test_another_model_s_stream_is_refused(codec: CodecModel, folder: Path) -> None:
    coder = models.load_fine_coder(folder, codec.identity)
    packets = packets_of(codec, random_codes(10), PROFILES["default"], fine_coder=coder)
    listener = Listener(codec, PROFILES["default"])
    for packet in packets:
        listener.receiver.push(packet)
    assert listener.receiver.statistics.foreign == len(packets)
    with pytest.raises(ModelMismatch):
        models.load_fine_coder(folder, tiny_codec(num_mels=24).identity)
    with pytest.raises(ModelMismatch):
        models.load_concealer("model", tiny_codec(num_mels=24), folder)


def test_the_masked_model_conceals(codec: CodecModel, folder: Path) -> None:
    concealer = models.load_concealer("model", codec, folder)
    assert isinstance(concealer, MaskedConcealer)
    codes, profile = random_codes(30), PROFILES["default"]
    packets = packets_of(codec, codes, profile)
    kept = packets[:6] + packets[9:]
    got = Listener(codec, profile, concealer=concealer).play(kept, 30)
    whole = Listener(codec, profile).play(packets, 30)
    changed = (got != whole).any(1).nonzero()[:, 0].tolist()
    # packets 6 to 8 are frames 12 to 17, of which 9 and 10 bring copies
    assert set(changed) == {12, 13, 14, 15, 16, 17}
    received = codes.clone()
    received[:, 12:15] = -1
    received[3:, 15:18] = -1  # repaired, without their fine codes
    window = received[:, 12 - concealer.past_frames : 13 + concealer.future_frames]
    expected = concealer.latent(window, concealer.past_frames)
    assert torch.allclose(got[12], expected, atol=1e-6)
