"""A hash of coded fine codes; also run by test_masked_coding.py in processes of its own."""

import hashlib
import sys

import numpy as np
from forced_kernels import take_threads

from speechlm.transmission.masked_coding import MaskedFineCoder


def hash_of_blocks(coder, codebook_size, blocks):
    """SHA-256 of so many blocks of random codes, in packets of all lengths, some with holes."""
    chance, digest = np.random.default_rng(0), hashlib.sha256()
    for number in range(blocks):
        frames = 1 + number % 8
        own = 1 + number % min(2, frames)
        base = chance.integers(0, codebook_size, (coder.num_given, frames))
        fine = chance.integers(0, codebook_size, (coder.num_levels, own))
        is_known = chance.random(frames) < 0.7
        digest.update(coder.encode(fine, base, is_known))
    return digest.hexdigest()


if __name__ == "__main__":
    take_threads()
    folder, size, count = sys.argv[1:]
    print(hash_of_blocks(MaskedFineCoder.load(folder), int(size), int(count)))
