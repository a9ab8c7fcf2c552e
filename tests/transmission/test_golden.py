"""Streams that were written once decode to the same codes for ever; a new format gets files of its own.

`golden/` holds, for each stream, the codes and the length that went in (`streams.json`), and the table that
coded it. They were written by format 1 as it first was; no change of speechlm may ask for new ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_streams import read

from speechlm.transmission.codes_stream import CodesWriter
from speechlm.transmission.info import describe_stream
from speechlm.transmission.integer_fine import IntegerFineModel
from speechlm.transmission.models import load_entropy_model
from speechlm.transmission.symbol_model import SymbolModel, UniformModel

GOLDEN = Path(__file__).parent / "golden"
STREAMS = json.loads((GOLDEN / "streams.json").read_text(encoding="utf-8"))


def model(name: str) -> SymbolModel:
    told = STREAMS[name]
    if told["model"] is None:
        return UniformModel(len(told["codes"]), 16)
    return load_entropy_model(GOLDEN / told["model"], num_books=len(told["codes"]))


@pytest.mark.parametrize("name", STREAMS)
def test_a_golden_stream_decodes_to_what_went_in(name: str) -> None:
    told = STREAMS[name]
    data = (GOLDEN / name).read_bytes()
    codes, concealed, reader = read(data, model(name))
    assert codes.tolist() == told["codes"]
    assert not concealed.any() and reader.damages == []
    assert reader.num_samples == told["num_samples"]


@pytest.mark.parametrize("name", STREAMS)
def test_the_same_codes_still_give_the_same_bytes(name: str) -> None:
    told, header = STREAMS[name], describe_stream(GOLDEN / name).header
    writer = CodesWriter(
        header.codec,
        model(name),
        chunk_frames=header.chunk_frames,
        num_samples=header.num_samples,
    )
    data = writer.push(torch.tensor(told["codes"])) + writer.finish(told["num_samples"])
    assert data == (GOLDEN / name).read_bytes()


@pytest.mark.parametrize("name", STREAMS)
def test_a_golden_stream_with_a_bad_chunk_keeps_the_others(name: str) -> None:
    told = STREAMS[name]
    data = bytearray((GOLDEN / name).read_bytes())
    data[60] ^= 1  # of the first chunk
    codes, concealed, _ = read(bytes(data), model(name))
    assert concealed.nonzero().flatten().tolist() == list(range(10))
    assert codes[:, 10:].tolist() == [row[10:] for row in told["codes"]]


def test_a_golden_stream_of_the_network_is_coded_by_it() -> None:
    told = describe_stream(GOLDEN / "integer-1.lmc")
    assert told.header.numeric_profile == "integer-1"
    assert told.num_raw_chunks == 0


def test_golden_fine_codes_are_generated_again() -> None:
    told = json.loads((GOLDEN / "fine.json").read_text(encoding="utf-8"))
    model = IntegerFineModel.load(GOLDEN / "integer-1-fine")
    base = torch.tensor(told["base"])
    entries = torch.arange(6 * 16 * 3).reshape(6, 16, 3).mul(7).remainder(23).sub(11) / 8
    assert model.stream().push(base).tolist() == told["likeliest"]
    assert model.stream(temperature=0.8, seed=3).push(base).tolist() == told["drawn"]
    assert model.stream(entries=entries).push(base).tolist() == told["nearest"]
    means = model.stream(entries=entries).push_latents(base) * 4096
    assert means.tolist() == told["mean"]


KERNELS = {
    "sse4": {
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
    },
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    },
    "native": {},
}


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kernels", KERNELS)
def test_any_kernels_and_threads_decode_alike(kernels: str, threads: int) -> None:
    """Each in a process of its own: the tests above, under another instruction set."""
    own = [
        f"{Path(__file__)}::test_a_golden_stream_decodes_to_what_went_in",
        f"{Path(__file__)}::test_golden_fine_codes_are_generated_again",
    ]
    settings = {**KERNELS[kernels], "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *own, "-q", "-p", "no:cacheprovider"],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
