"""Scripts in processes of their own, under kernels and numbers of threads that other machines would have."""

import os
import subprocess
import sys

_THREADS = ("TABLE_HASH_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
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


def printed(script, arguments, kernels, threads):
    """What a script prints under kernels (`SSE`, `AVX2`, or {} for the machine's own)."""
    forced = dict.fromkeys(_THREADS, str(threads)) | kernels
    kept = {name: value for name, value in os.environ.items() if name not in {*SSE, *_THREADS}}
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        env=kept | forced,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def take_threads():
    """Called by a script: let torch have as many threads as it was started for."""
    if threads := os.environ.get("TABLE_HASH_THREADS"):
        import torch

        torch.set_num_threads(int(threads))
