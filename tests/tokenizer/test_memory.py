"""What the process keeps of freed memory, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = """
import resource, sys
import torch
from speechlm.tokenizer.memory import keep_freed_memory, return_freed_memory

def resident():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * resource.getpagesize() / 2**20

keep_freed_memory()
start = resident()
# every other block stays, so that the freed ones are holes in the middle
blocks = [torch.ones(1 << 20) for _ in range(64)]
full = resident()
del blocks[::2]
kept = resident()
return_freed_memory()
print(start, full, kept, resident())
assert all(bool((block == 1).all()) for block in blocks)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_freed_memory_is_kept_until_it_is_given_back():
    try:
        import ctypes

        ctypes.CDLL("libc.so.6").malloc_trim  # noqa: B018
    except (OSError, AttributeError):
        pytest.skip("another C library than glibc")
    run = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True
    )
    start, full, kept, returned = map(float, run.stdout.split())
    assert full - start > 240
    assert kept > full - 10
    assert returned < full - 100
