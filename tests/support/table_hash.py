"""A hash of all tables of a stream; also run by test_integer_determinism.py in processes of its own."""

import hashlib
import sys

import numpy as np
from forced_kernels import take_threads

from speechlm.transmission.entropy_coding import IntegerEntropyModel


def hash_of_tables(model, frames):
    """SHA-256 of all tables along a road that any wrong table leaves at once."""
    digest, state = hashlib.sha256(), model.start()
    symbol = 1
    for number in range(frames * model.num_books):
        table = model.frequencies(state)
        digest.update(table.astype("<i8").tobytes())
        symbol = (symbol * 31 + number + int(np.argmax(table))) % model.codebook_size
        model.push(state, symbol)
    return digest.hexdigest()


if __name__ == "__main__":
    take_threads()
    print(hash_of_tables(IntegerEntropyModel.load(sys.argv[1]), int(sys.argv[2])))
