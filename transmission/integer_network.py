"""What networks in integers share: tensors that are checked, named and kept in a file, and their blocks.

Weights are int8 with a multiplier for each row; activations are fixed-point numbers of some 20 bits
(`integer_arithmetic.py`). They need no ranges found on data, since norms bound them. Nothing depends on
how many frames go through a block at once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptWeights
from ..tokenizer.files import write_atomically
from ..tokenizer.model_folder import read_config
from .config import WindowModelConfig
from .integer_arithmetic import (
    EXP_BITS,
    FRACTION,
    LIMIT,
    SCALE_BITS,
    STREAM_LIMIT,
    IntegerLinear,
    Integers,
    exp2,
    limited,
    rms_norm,
    silu,
)

WEIGHTS = "integer.safetensors"
GAIN_BITS = 16  # of the products of query and key gains
COUNT_BITS = 26  # of the likeliest code's count
_MIX_BITS = 16  # of the heaviest attention weight
_MAX_WIDTH = 1024  # inputs of a linear layer, see IntegerLinear
_MAX_ENTRIES = 1 << 11  # their counts then sum to 2^37 at most
_MAX_WINDOW = 1 << 12
# the largest magnitude of the tensors whose names end so
_LARGEST = {".gain": 1 << (GAIN_BITS + 4), ".bias": LIMIT, "start": LIMIT, "unknown": LIMIT}

Tensors = Mapping[str, NDArray[Any]]
Shapes = dict[str, tuple[type, tuple[int, ...]]]


class IntegerNetwork:
    """Weights of a network over the codes of frames, in integers.

    A subclass sets `numeric_profile`, says in `expected` which tensors it has, and adds its steps.

    Args:
        config: Of the model that it was made of.
        tensors: As `integer_quantize.py` makes them.

    Attributes:
        numeric_profile: Name of the arithmetic; whatever changes one result is a new one.
        num_given: G, books that are given.
        num_levels: P, books that are predicted.

    Raises:
        CorruptWeights: If a tensor is missing, unknown, or not of its type, shape or range.
    """

    numeric_profile: ClassVar[str]

    def __init__(self, config: WindowModelConfig, tensors: Tensors) -> None:
        self.config = config
        self.tensors = dict(tensors)
        self._check()
        self.num_given, self.num_levels = config.num_given, config.num_levels
        self._codes = self.tensors["codes.weight"]
        self._code_scale = self.tensors["codes.scale"].astype(np.int64)
        self._hidden = [self.linear(f"heads.{i}.hidden") for i in range(self.num_levels)]
        self._logits = [self.linear(f"heads.{i}.logits") for i in range(self.num_levels)]
        self._chosen = [self.linear(f"chosen.{i}") for i in range(self.num_levels - 1)]

    @staticmethod
    def expected(config: WindowModelConfig) -> Shapes:
        """Type and shape of every tensor."""
        raise NotImplementedError

    def linear(self, name: str) -> IntegerLinear:
        """The layer that some tensors describe."""
        tensors = self.tensors
        bias = tensors.get(f"{name}.bias")
        return IntegerLinear(tensors[f"{name}.weight"], tensors[f"{name}.scale"], bias)

    def vectors(self, codes: Sequence[int] | Integers, first_book: int) -> Integers:
        """Vectors of the codes of k books side by side: fixed-point `[…, k E]` of integers `[…, k]`."""
        found = np.asarray(codes, dtype=np.int64)
        books = first_book + np.arange(found.shape[-1])
        rows = books * self.config.codebook_size + found
        scaled = self._codes[rows].astype(np.int64) * self._code_scale[rows, None]
        shift = SCALE_BITS - FRACTION
        return limited((scaled + (1 << (shift - 1))) >> shift).reshape(*found.shape[:-1], -1)

    def logits(self, state: Integers, level: int) -> Integers:
        """Base-2 logarithms of how likely each code of a level is, but for a constant.

        Args:
            state: Fixed-point `[…, D]`.
            level: 0 to P - 1.

        Returns:
            Fixed-point `[…, V]`.
        """
        hidden = limited(silu(self._hidden[level](rms_norm(state))))
        return self._logits[level](hidden)

    def counts(self, state: Integers, level: int) -> Integers:
        """How likely each code of a level is: int64 `[…, V]`, the likeliest 2^26, others in proportion."""
        logits = self.logits(state, level)
        return exp2(logits.max(-1, keepdims=True) - logits) >> (EXP_BITS - COUNT_BITS)

    def tell(self, state: Integers, level: int, codes: int | Integers) -> Integers:
        """The states `[…, D]` of frames once their codes of `level`, integers `[…]`, are known."""
        vectors = self.vectors(np.asarray(codes)[..., None], self.num_given + level)
        return limited(state + self._chosen[level](vectors), STREAM_LIMIT)

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 over profile, configuration and weights."""
        digest = hashlib.sha256(f"{self.numeric_profile} {_described(self.config)}".encode())
        for name, tensor in sorted(self.tensors.items()):
            digest.update(f"{name}{tensor.dtype.str}{list(tensor.shape)}".encode())
            digest.update(np.ascontiguousarray(tensor).tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `config.json` and `integer.safetensors`."""
        from safetensors.numpy import save

        out = Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / WEIGHTS, save(self.tensors, {"profile": self.numeric_profile}))
        write_atomically(out / "config.json", self.config.to_json_string(use_diff=False).encode())

    @classmethod
    def load(cls, folder: str | os.PathLike[str], config_class: type[WindowModelConfig]) -> Self:
        """Read what `save` wrote.

        Args:
            folder: The folder.
            config_class: Of the model that it was made of.

        Raises:
            CorruptWeights: If a file is missing or damaged, or of another profile.
            ConfigError: If the configuration is refused, for example as another model's.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(folder) / WEIGHTS
        config = read_config(Path(folder), config_class)
        if not path.is_file():
            raise CorruptWeights(
                f"{folder} has no {WEIGHTS}; write one by `speechlm export` from a run."
            )
        try:
            with safe_open(path, "np") as file:
                profile = (file.metadata() or {}).get("profile")
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (SafetensorError, OSError, TypeError, ValueError) as error:
            raise CorruptWeights(
                f"{path} is not readable safetensors ({error}); export the model again."
            ) from error
        if profile != cls.numeric_profile:
            raise CorruptWeights(
                f"{path} is of the profile {profile!r}, this release computes "
                f"{cls.numeric_profile!r}; export the model again."
            )
        try:
            return cls(config, tensors)
        except CorruptWeights as error:
            raise CorruptWeights(f"{path} cannot be used: {error}") from error

    def _check(self) -> None:
        config, tensors, profile = self.config, self.tensors, self.numeric_profile
        expected = self.expected(config)
        if odd := sorted(set(expected) ^ set(tensors)):
            raise CorruptWeights(f"weights and configuration disagree about the tensor {odd[0]}.")
        widest = max(shape[-1] for name, (_, shape) in expected.items() if name.endswith(".weight"))
        if widest > _MAX_WIDTH or config.codebook_size > _MAX_ENTRIES:
            raise CorruptWeights(
                f"the profile {profile} sums exactly over at most {_MAX_WIDTH} inputs and "
                f"{_MAX_ENTRIES} entries, {widest} and {config.codebook_size} are asked for."
            )
        if config.window > _MAX_WINDOW:
            raise CorruptWeights(f"a window of {config.window} frames is more than {_MAX_WINDOW}.")
        for name, (kind, shape) in expected.items():
            tensor = tensors[name]
            if tensor.dtype != kind or tensor.shape != shape:
                raise CorruptWeights(
                    f"{name} is {tensor.dtype} {list(tensor.shape)}, expected "
                    f"{np.dtype(kind)} {list(shape)}."
                )
            if not _is_allowed(name, tensor):
                raise CorruptWeights(
                    f"{name} holds values that the profile {profile} does not allow."
                )


class IntegerBlock:
    """One block of the Transformer, over frames whose keys and values its user keeps.

    Args:
        network: Holds the tensors.
        layer: Number of the block.

    Attributes:
        bias: int64 `[H, ages]`, fixed-point, as the model has it.
    """

    def __init__(self, network: IntegerNetwork, layer: int) -> None:
        name = f"blocks.{layer}"
        self.heads = network.config.num_heads
        self.query_key_value = network.linear(f"{name}.query_key_value")
        self.output = network.linear(f"{name}.output")
        self.gate_and_value = network.linear(f"{name}.gate_and_value")
        self.ffn_output = network.linear(f"{name}.ffn_output")
        self.gain = network.tensors[f"{name}.gain"].astype(np.int64)
        self.bias = network.tensors[f"{name}.bias"].astype(np.int64)

    def split(self, x: Integers) -> tuple[Integers, Integers, Integers]:
        """Query, key and value of n frames `[n, D]`: each `[H, n, D/H]`."""
        packed = self.query_key_value(rms_norm(x)).reshape(len(x), 3, self.heads, -1)
        packed = packed.transpose(1, 2, 0, 3)
        query, key = rms_norm(packed[:2])
        query = (query * self.gain + (1 << (GAIN_BITS - 1))) >> GAIN_BITS
        return query, key, packed[2]

    def mix(
        self,
        x: Integers,
        query: Integers,
        keys: NDArray[np.float64],
        values: NDArray[np.float64],
        bias: Integers,
    ) -> Integers:
        """What leaves the block for n frames that see N.

        Args:
            x: What entered it, `[n, D]`.
            query: `[H, n, D/H]`.
            keys, values: `[H, N, D/H]`, integers held in float64.
            bias: `[H, n, N]`.

        Returns:
            int64 `[n, D]`.
        """
        # below 2^53 as everything here: 2^16 squared over the width of a head, 2^19 times 2^16 over N
        scores = (query.astype(np.float64) @ keys.transpose(0, 2, 1)).astype(np.int64)
        scores = (scores >> FRACTION) + bias
        weights = exp2(scores.max(-1, keepdims=True) - scores) >> (EXP_BITS - _MIX_BITS)
        mixed = (weights.astype(np.float64) @ values).astype(np.int64)
        mixed = limited(mixed // weights.sum(-1, keepdims=True))
        x = limited(x + self.output(mixed.transpose(1, 0, 2).reshape(x.shape)), STREAM_LIMIT)
        gate, value = np.split(self.gate_and_value(rms_norm(x)), 2, axis=-1)
        hidden = limited(silu(gate) * value >> FRACTION)
        return limited(x + self.ffn_output(hidden), STREAM_LIMIT)


def linear_shapes(name: str, outputs: int, inputs: int, *, has_bias: bool = False) -> Shapes:
    """Tensors of a linear layer, or of a table of vectors."""
    found: Shapes = {
        f"{name}.weight": (np.int8, (outputs, inputs)),
        f"{name}.scale": (np.int32, (outputs,)),
    }
    return found | ({f"{name}.bias": (np.int32, (outputs,))} if has_bias else {})


def block_shapes(config: WindowModelConfig, layer: int, num_ages: int) -> Shapes:
    """Tensors of a block that knows so many ages."""
    name, width, heads = f"blocks.{layer}", config.hidden_size, config.num_heads
    return (
        linear_shapes(f"{name}.query_key_value", 3 * width, width)
        | linear_shapes(f"{name}.output", width, width)
        | linear_shapes(f"{name}.gate_and_value", 2 * config.ffn_size, width)
        | linear_shapes(f"{name}.ffn_output", width, config.ffn_size)
        | {f"{name}.gain": (np.int32, (width // heads,))}
        | {f"{name}.bias": (np.int32, (heads, num_ages))}
    )


def head_shapes(config: WindowModelConfig, level: int) -> Shapes:
    """Tensors of a level: its head, and what it tells the levels above it."""
    name, width, size = f"heads.{level}", config.hidden_size, config.head_size
    found = linear_shapes(f"{name}.hidden", size, width, has_bias=True)
    found |= linear_shapes(f"{name}.logits", config.codebook_size, size, has_bias=True)
    if level + 1 < config.num_levels:
        found |= linear_shapes(f"chosen.{level}", width, config.code_size)
    return found


def _is_allowed(name: str, tensor: NDArray[Any]) -> bool:
    if name.endswith(".scale"):
        return bool(0 <= tensor.min() and tensor.max() < 1 << SCALE_BITS)
    for end, largest in _LARGEST.items():
        if name.endswith(end):
            return bool(np.abs(tensor.astype(np.int64)).max() <= largest)
    return True


def _described(config: WindowModelConfig) -> str:
    """What of the configuration a table depends on."""
    names = (
        *("hidden_size", "num_layers", "num_heads", "ffn_size", "code_size", "head_size", "window"),
        *("num_given", "num_levels", "codec_id", "codec_revision", "codebook_size"),
    )
    return json.dumps({name: getattr(config, name) for name in names}, sort_keys=True)
