"""Equal tables in separate processes, whichever kernels and however many threads compute them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from table_hash import hash_of_tables
from tiny_transmission import CODEC, entropy_model

from speechlm.transmission.config import EntropyConfig
from speechlm.transmission.entropy_coding import IntegerEntropyModel
from speechlm.transmission.entropy_model import EntropyModel
from speechlm.transmission.integer_quantize import quantize

SCRIPT = Path(__file__).resolve().parents[1] / "support" / "table_hash.py"
THREADS = ("TABLE_HASH_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# what torch, MKL, oneDNN, OpenBLAS (numpy's products) and numpy's own loops may use
SSE = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX2 FMA3",
}
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
}


def table_hash(folder: Path, frames: int, kernels: dict[str, str], threads: int) -> str:
    forced = {name: str(threads) for name in THREADS} | kernels
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), str(frames)],
        env={name: value for name, value in os.environ.items() if name not in {*SSE, *THREADS}}
        | forced,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_old_kernels_and_two_threads_give_the_tables_of_this_machine(tmp_path: Path) -> None:
    quantize(entropy_model()).save(tmp_path)
    here = hash_of_tables(IntegerEntropyModel.load(tmp_path), 40)
    assert table_hash(tmp_path, 40, SSE, 2) == here


@pytest.mark.slow
def test_a_model_of_the_shipped_size_gives_one_hash_everywhere(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = EntropyModel(EntropyConfig.for_codec(CODEC)).eval()
    with torch.no_grad():
        for head in model.heads:
            head.logits.weight.mul_(4)  # type: ignore[operator, union-attr]
    quantize(model).save(tmp_path)
    found = {
        table_hash(tmp_path, 200, kernels, threads)
        for kernels in ({}, AVX2, SSE)
        for threads in (1, 2)
    }
    assert len(found) == 1
    assert len(found.pop()) == 64
