"""Fine codes in the bytes of one packet: they come back everywhere, from that packet alone."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from forced_kernels import AVX2, SSE, printed
from masked_hash import hash_of_blocks
from tiny_masked import masked_model
from tiny_transmission import CODEC, entropy_model, ruled_codes

from speechlm.errors import ConfigError, CorruptStream
from speechlm.transmission.config import MaskedConfig
from speechlm.transmission.frequencies import frequencies_of_counts
from speechlm.transmission.integer_masked import IntegerMaskedModel
from speechlm.transmission.integer_quantize import quantize, quantize_masked
from speechlm.transmission.masked_coding import MaskedFineCoder
from speechlm.transmission.masked_model import MaskedModel

SCRIPT = Path(__file__).resolve().parents[1] / "support" / "masked_hash.py"
GOLDEN = Path(__file__).parent / "golden"
SIZE = CODEC.codebook_size


def coder(seed: int = 0) -> MaskedFineCoder:
    return MaskedFineCoder(quantize_masked(masked_model(seed)))


def test_random_codes_come_back_in_packets_of_every_shape() -> None:
    fine_coder, chance = coder(), np.random.default_rng(0)
    for frames in range(1, 10):
        for own in {1, 2, frames} & set(range(1, frames + 1)):
            for levels in (1, 2):
                base = chance.integers(0, SIZE, (2, frames))
                fine = chance.integers(0, SIZE, (levels, own))
                is_known = chance.random(frames) < 0.6
                data = fine_coder.encode(fine, base, is_known)
                found = fine_coder.decode(data, levels, own, base, is_known)
                assert np.array_equal(found, fine)


def test_blocks_are_as_long_as_their_information() -> None:
    network, chance = quantize_masked(masked_model()), np.random.default_rng(1)
    fine_coder = MaskedFineCoder(network)
    is_known, bits, length, blocks = np.ones(9, dtype=bool), 0.0, 0, 8
    for number in range(blocks):
        base, rows = ruled_codes(9, number)[:2].numpy(), []
        states = network.states(base, is_known)
        for level in range(2):  # codes as the model expects them
            tables = frequencies_of_counts(network.counts(states, level), 24) / 2**24
            rows.append([int(chance.choice(SIZE, p=table / table.sum())) for table in tables])
            for table, code in zip(tables, rows[-1], strict=True):
                bits -= math.log2(table[code])
            if not level:
                states = network.tell(states, level, np.array(rows[0]))
        length += len(fine_coder.encode(np.array(rows), base, is_known))
    assert bits < 0.8 * blocks * 9 * 2 * math.log2(SIZE)
    # a block ends with a byte, and now and then with zeros that need not be written
    assert bits - blocks < 8 * length < bits + 8 * blocks


def test_what_is_decoded_is_what_an_encoder_wrote() -> None:
    fine_coder, chance = coder(), np.random.default_rng(2)
    base, is_known = ruled_codes(4)[:2].numpy(), np.array([True, False, True, True])
    fine = chance.integers(0, SIZE, (2, 2))
    data = fine_coder.encode(fine, base, is_known)
    damaged = {data[:-1], data + b"\0", data + b"x", b"", b"\xff" * len(data)}
    for place in range(8 * len(data)):
        bits = int.from_bytes(data, "big") ^ 1 << place
        damaged.add(bits.to_bytes(len(data), "big"))
    refused = 0
    for bad in damaged - {data}:
        try:
            found = fine_coder.decode(bad, 2, 2, base, is_known)
        except CorruptStream:
            refused += 1
        else:  # bytes of other codes, which the packet's checksum tells
            assert not np.array_equal(found, fine)
            assert fine_coder.encode(found, base, is_known) == bad
    assert refused > 4
    for appended in (data + b"\0", data + b"x", data + data):
        with pytest.raises(CorruptStream):
            fine_coder.decode(appended, 2, 2, base, is_known)


def test_codes_depend_on_nothing_but_the_packet() -> None:
    """Frames that a packet lacks may hold anything, and an earlier call leaves nothing behind."""
    fine_coder, codes = coder(), ruled_codes(6).numpy()
    is_known = np.array([True, False, False, True, True, True])
    data = fine_coder.encode(codes[2:, -2:], codes[:2], is_known)
    lacking = np.where(is_known, codes[:2], 0)
    fine_coder.encode(codes[2:, :1], codes[:2, :1], is_known[:1])
    assert fine_coder.encode(codes[2:, -2:], lacking, is_known) == data
    assert np.array_equal(coder().decode(data, 2, 2, lacking, is_known), codes[2:, -2:])


def test_calls_that_do_not_fit_the_model_are_refused_on_both_sides() -> None:
    fine_coder, codes = coder(), ruled_codes(12).numpy()
    known = np.ones(12, dtype=bool)
    bad = [
        (codes[2:, :4], codes[:2, :3], known[:3], "4 of 3 frames"),
        (codes[2:, :2], codes[:2], known, "a look takes in 9"),
        (codes[1:, :2], codes[:2, :3], known[:3], "3 levels"),
        (codes[2:, :2], codes[:3, :3], known[:3], "base codes are"),
        (codes[2:, :2], codes[:2, :3], known[:2], "base codes are"),
        (codes[2:, :2], codes[:2, :3] + 32, known[:3], "no code|not in 0 to 31"),
    ]
    for fine, base, is_known, why in bad:
        with pytest.raises(ConfigError, match=why):
            fine_coder.encode(fine, base, is_known)
        with pytest.raises(CorruptStream, match=why):
            fine_coder.decode(b"abc", *fine.shape, base, is_known)
    with pytest.raises(ConfigError, match="not in 0 to 31"):
        fine_coder.encode(codes[2:, :2] - 32, codes[:2, :2], known[:2])


def test_golden_blocks_are_written_and_read_for_ever() -> None:
    """Written once by the profile as it first was; no change may ask for new ones."""
    told = json.loads((GOLDEN / "masked.json").read_text(encoding="utf-8"))
    fine_coder = MaskedFineCoder.load(GOLDEN / "integer-masked-1")
    assert fine_coder.fingerprint == told["fingerprint"]
    for block in told["blocks"]:
        base, fine = np.array(block["base"]), np.array(block["fine"])
        is_known, data = np.array(block["is_known"], dtype=bool), bytes.fromhex(block["bytes"])
        assert fine_coder.encode(fine, base, is_known) == data
        assert np.array_equal(fine_coder.decode(data, *fine.shape, base, is_known), fine)


def test_old_kernels_and_two_threads_write_the_bytes_of_this_machine(tmp_path: Path) -> None:
    quantize_masked(masked_model()).save(tmp_path)
    here = hash_of_blocks(MaskedFineCoder.load(tmp_path), SIZE, 24)
    assert printed(SCRIPT, (tmp_path, SIZE, 24), SSE, 2) == here


@pytest.mark.slow
def test_a_model_of_the_shipped_size_writes_the_same_bytes_everywhere(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MaskedModel(MaskedConfig.for_codec(CODEC)).eval()
    with torch.no_grad():
        for head in model.heads:
            head.logits.weight.mul_(4)  # type: ignore[operator, union-attr]
    quantize_masked(model).save(tmp_path)
    found = {
        printed(SCRIPT, (tmp_path, SIZE, 64), kernels, threads)
        for kernels in ({}, AVX2, SSE)
        for threads in (1, 2)
    }
    assert len(found) == 1
    assert len(found.pop()) == 64


def test_the_two_integer_profiles_are_apart(tmp_path: Path) -> None:
    quantize(entropy_model()).save(tmp_path)
    with pytest.raises(ConfigError, match="MaskedConfig"):
        MaskedFineCoder.load(tmp_path)
    assert IntegerMaskedModel.numeric_profile != quantize(entropy_model()).numeric_profile
