"""Equal tables in separate processes, whichever kernels and however many threads compute them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from forced_kernels import AVX2, SSE, printed
from table_hash import hash_of_tables
from tiny_transmission import CODEC, entropy_model

from speechlm.transmission.config import EntropyConfig
from speechlm.transmission.entropy_coding import IntegerEntropyModel
from speechlm.transmission.entropy_model import EntropyModel
from speechlm.transmission.integer_quantize import quantize

SCRIPT = Path(__file__).resolve().parents[1] / "support" / "table_hash.py"


def test_old_kernels_and_two_threads_give_the_tables_of_this_machine(tmp_path: Path) -> None:
    quantize(entropy_model()).save(tmp_path)
    here = hash_of_tables(IntegerEntropyModel.load(tmp_path), 40)
    assert printed(SCRIPT, (tmp_path, 40), SSE, 2) == here


@pytest.mark.slow
def test_a_model_of_the_shipped_size_gives_one_hash_everywhere(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = EntropyModel(EntropyConfig.for_codec(CODEC)).eval()
    with torch.no_grad():
        for head in model.heads:
            head.logits.weight.mul_(4)  # type: ignore[operator, union-attr]
    quantize(model).save(tmp_path)
    found = {
        printed(SCRIPT, (tmp_path, 200), kernels, threads)
        for kernels in ({}, AVX2, SSE)
        for threads in (1, 2)
    }
    assert len(found) == 1
    assert len(found.pop()) == 64
