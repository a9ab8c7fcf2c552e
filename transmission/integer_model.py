"""`IntegerFrameModel`: a `FrameModel` in integers, one step a frame, the same on every machine.

The step is the only way through it: encoder and decoder, files and streams, all take it. Weights are
int8 with a multiplier for each row; activations are fixed-point numbers of some 20 bits
(`integer_arithmetic.py`). They need no ranges found on data, since norms bound them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptWeights
from ..tokenizer.files import write_atomically
from ..tokenizer.model_folder import read_config
from .config import FrameModelConfig
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

PROFILE = "integer-1"
WEIGHTS = "integer.safetensors"
GAIN_BITS = 16  # of the products of query and key gains
COUNT_BITS = 26  # of the likeliest code's count
_MIX_BITS = 16  # of the heaviest attention weight
_MAX_WIDTH = 1024  # inputs of a linear layer, see IntegerLinear
_MAX_ENTRIES = 1 << 11  # their counts then sum to 2^37 at most
_MAX_WINDOW = 1 << 12

Tensors = Mapping[str, NDArray[Any]]


@dataclass
class IntegerCache:
    """Keys and values of the frames in the window, integers held in float64.

    Attributes:
        keys, values: `[L, H, 2 W, D/H]`; a frame is written at `end`, and when the end is reached the
            window moves back to the front.
        start, end: Where the frames of the window lie.
    """

    keys: NDArray[np.float64]
    values: NDArray[np.float64]
    start: int = 0
    end: int = 0


class _Block:
    """One block of the Transformer."""

    def __init__(self, model: IntegerFrameModel, layer: int) -> None:
        name = f"blocks.{layer}"
        self.layer, self.heads = layer, model.config.num_heads
        self.query_key_value = model.linear(f"{name}.query_key_value")
        self.output = model.linear(f"{name}.output")
        self.gate_and_value = model.linear(f"{name}.gate_and_value")
        self.ffn_output = model.linear(f"{name}.ffn_output")
        self.gain = model.tensors[f"{name}.gain"].astype(np.int64)
        # oldest first, as the keys lie
        self.bias = model.tensors[f"{name}.bias"].astype(np.int64)[:, ::-1]

    def step(self, x: Integers, cache: IntegerCache) -> Integers:
        """Map a frame's `[D]` behind those in the cache."""
        packed = self.query_key_value(rms_norm(x)).reshape(3, self.heads, -1)
        query, key = rms_norm(packed[:2])
        query = (query * self.gain + (1 << (GAIN_BITS - 1))) >> GAIN_BITS
        keys, values = cache.keys[self.layer], cache.values[self.layer]
        keys[:, cache.end], values[:, cache.end] = key, packed[2]
        keys, values = (held[:, cache.start : cache.end + 1] for held in (keys, values))
        # below 2^53 as everything here: 2^16 squared over the width of a head, 2^19 times 2^16 over W
        scores = (keys @ query.astype(np.float64)[:, :, None])[..., 0].astype(np.int64)
        scores = (scores >> FRACTION) + self.bias[:, -scores.shape[1] :]
        weights = exp2(scores.max(-1, keepdims=True) - scores) >> (EXP_BITS - _MIX_BITS)
        mixed = (weights.astype(np.float64)[:, None] @ values)[:, 0].astype(np.int64)
        mixed = limited(mixed // weights.sum(-1, keepdims=True))
        x = limited(x + self.output(mixed.reshape(-1)), STREAM_LIMIT)
        gate, value = self.gate_and_value(rms_norm(x)).reshape(2, -1)
        hidden = limited(silu(gate) * value >> FRACTION)
        return limited(x + self.ffn_output(hidden), STREAM_LIMIT)


class IntegerFrameModel:
    """The network of the entropy model and of the fine model in the profile `integer-1`.

    Args:
        config: Of the model that it was made of.
        tensors: As `integer_quantize.py` makes them.

    Raises:
        CorruptWeights: If a tensor is missing, unknown, or not of its type, shape or range.
    """

    numeric_profile = PROFILE

    def __init__(self, config: FrameModelConfig, tensors: Tensors) -> None:
        self.config = config
        self.tensors = dict(tensors)
        _check(self.tensors, config)
        self.num_given, self.num_levels = config.num_given, config.num_levels
        self._codes = self.tensors["codes.weight"]
        self._code_scale = self.tensors["codes.scale"].astype(np.int64)
        self._start = self.tensors["start"].astype(np.int64)
        self._previous = self.linear("previous")
        self._given = self.linear("given") if self.num_given else None
        self._blocks = [_Block(self, layer) for layer in range(config.num_layers)]
        self._chosen = [self.linear(f"chosen.{i}") for i in range(self.num_levels - 1)]
        self._hidden = [self.linear(f"heads.{i}.hidden") for i in range(self.num_levels)]
        self._logits = [self.linear(f"heads.{i}.logits") for i in range(self.num_levels)]

    def linear(self, name: str) -> IntegerLinear:
        """The layer that some tensors describe."""
        tensors = self.tensors
        bias = tensors.get(f"{name}.bias")
        return IntegerLinear(tensors[f"{name}.weight"], tensors[f"{name}.scale"], bias)

    def new_cache(self) -> IntegerCache:
        """The memory before the first frame."""
        config = self.config
        size = config.hidden_size // config.num_heads
        shape = (config.num_layers, config.num_heads, 2 * config.window, size)
        return IntegerCache(np.zeros(shape), np.zeros(shape))

    def advance(
        self, cache: IntegerCache, previous: Sequence[int] | None, given: Sequence[int] = ()
    ) -> Integers:
        """Take the step to the next frame.

        Args:
            cache: Of the frames before; takes this one in.
            previous: P codes of the frame before; None at the first one.
            given: G codes of this frame.

        Returns:
            int64 `[D]`, the frame's state.
        """
        x = self._start
        if previous is not None:
            x = self._previous(self._vectors(previous, self.num_given))
        if self._given is not None:
            x = x + self._given(self._vectors(given, 0))
        if cache.end == cache.keys.shape[2]:
            kept = cache.end - cache.start
            for held in (cache.keys, cache.values):
                held[:, :, :kept] = held[:, :, cache.start : cache.end].copy()
            cache.start, cache.end = 0, kept
        cache.start = max(cache.start, cache.end + 1 - self.config.window)
        for block in self._blocks:
            x = block.step(x, cache)
        cache.end += 1
        return x

    def logits(self, state: Integers, level: int) -> Integers:
        """Base-2 logarithms of how likely each code of a level is, but for a constant: fixed-point `[V]`."""
        hidden = limited(silu(self._hidden[level](rms_norm(state))))
        return self._logits[level](hidden)

    def counts(self, state: Integers, level: int) -> Integers:
        """How likely each code of a level is: int64 `[V]`, the likeliest 2^26, others in proportion."""
        logits = self.logits(state, level)
        return exp2(logits.max() - logits) >> (EXP_BITS - COUNT_BITS)

    def tell(self, state: Integers, level: int, code: int) -> Integers:
        """The frame's state once the code of `level` is known."""
        told = state + self._chosen[level](self._vectors([code], self.num_given + level))
        return limited(told, STREAM_LIMIT)

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 over profile, configuration and weights."""
        digest = hashlib.sha256(f"{PROFILE} {_described(self.config)}".encode())
        for name, tensor in sorted(self.tensors.items()):
            digest.update(f"{name}{tensor.dtype.str}{list(tensor.shape)}".encode())
            digest.update(np.ascontiguousarray(tensor).tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `config.json` and `integer.safetensors`."""
        from safetensors.numpy import save

        out = Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / WEIGHTS, save(self.tensors, {"profile": PROFILE}))
        write_atomically(out / "config.json", self.config.to_json_string(use_diff=False).encode())

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], config_class: type[FrameModelConfig]
    ) -> IntegerFrameModel:
        """Read what `save` wrote.

        Args:
            folder: The folder.
            config_class: `EntropyConfig` or `FineConfig`.

        Raises:
            CorruptWeights: If a file is missing or damaged, or of another profile.
            ConfigError: If the configuration is refused, for example as the other model's.
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
        if profile != PROFILE:
            raise CorruptWeights(
                f"{path} is of the profile {profile!r}, this release computes {PROFILE!r}; "
                "export the model again."
            )
        try:
            return cls(config, tensors)
        except CorruptWeights as error:
            raise CorruptWeights(f"{path} cannot be used: {error}") from error

    def _vectors(self, codes: Sequence[int], first_book: int) -> Integers:
        """Vectors of the codes of some books side by side, `[k E]`."""
        entries = self.config.codebook_size
        rows = [(first_book + number) * entries + code for number, code in enumerate(codes)]
        scaled = self._codes[rows].astype(np.int64) * self._code_scale[rows, None]
        shift = SCALE_BITS - FRACTION
        return limited((scaled + (1 << (shift - 1))) >> shift).reshape(-1)


def shapes(config: FrameModelConfig) -> dict[str, tuple[type, tuple[int, ...]]]:
    """Type and shape of every tensor of an integer model."""
    width, code, window = config.hidden_size, config.code_size, config.window
    given, levels = config.num_given, config.num_levels
    found: dict[str, tuple[type, tuple[int, ...]]] = {"start": (np.int32, (width,))}

    def add(name: str, outputs: int, inputs: int, has_bias: bool = False) -> None:
        found[f"{name}.weight"] = (np.int8, (outputs, inputs))
        found[f"{name}.scale"] = (np.int32, (outputs,))
        if has_bias:
            found[f"{name}.bias"] = (np.int32, (outputs,))

    add("codes", (given + levels) * config.codebook_size, code)
    add("previous", width, levels * code)
    if given:
        add("given", width, given * code)
    for layer in range(config.num_layers):
        name = f"blocks.{layer}"
        add(f"{name}.query_key_value", 3 * width, width)
        add(f"{name}.output", width, width)
        add(f"{name}.gate_and_value", 2 * config.ffn_size, width)
        add(f"{name}.ffn_output", width, config.ffn_size)
        found[f"{name}.gain"] = (np.int32, (width // config.num_heads,))
        found[f"{name}.bias"] = (np.int32, (config.num_heads, window))
    for level in range(levels):
        if level + 1 < levels:
            add(f"chosen.{level}", width, code)
        add(f"heads.{level}.hidden", config.head_size, width, has_bias=True)
        add(f"heads.{level}.logits", config.codebook_size, config.head_size, has_bias=True)
    return found


def _check(tensors: Tensors, config: FrameModelConfig) -> None:
    expected = shapes(config)
    if odd := sorted(set(expected) ^ set(tensors)):
        raise CorruptWeights(f"weights and configuration disagree about the tensor {odd[0]}.")
    widest = max(shape[-1] for name, (_, shape) in expected.items() if name.endswith(".weight"))
    if widest > _MAX_WIDTH or config.codebook_size > _MAX_ENTRIES:
        raise CorruptWeights(
            f"the profile {PROFILE} sums exactly over at most {_MAX_WIDTH} inputs and "
            f"{_MAX_ENTRIES} entries, {widest} and {config.codebook_size} are asked for."
        )
    if config.window > _MAX_WINDOW:
        raise CorruptWeights(f"a window of {config.window} frames is more than {_MAX_WINDOW}.")
    allowed: dict[str, Callable[[NDArray[Any]], bool]] = {
        ".scale": lambda tensor: 0 <= tensor.min() and tensor.max() < 1 << SCALE_BITS,
        ".gain": lambda tensor: np.abs(tensor.astype(np.int64)).max() <= 1 << (GAIN_BITS + 4),
        ".bias": lambda tensor: np.abs(tensor.astype(np.int64)).max() <= LIMIT,
        "start": lambda tensor: np.abs(tensor.astype(np.int64)).max() <= LIMIT,
    }
    for name, (kind, shape) in expected.items():
        tensor = tensors[name]
        if tensor.dtype != kind or tensor.shape != shape:
            raise CorruptWeights(
                f"{name} is {tensor.dtype} {list(tensor.shape)}, expected "
                f"{np.dtype(kind)} {list(shape)}."
            )
        is_allowed = next((test for end, test in allowed.items() if name.endswith(end)), None)
        if is_allowed is not None and not is_allowed(tensor):
            raise CorruptWeights(f"{name} holds values that the profile {PROFILE} does not allow.")


def _described(config: FrameModelConfig) -> str:
    """What of the configuration a table depends on."""
    names = (
        *("hidden_size", "num_layers", "num_heads", "ffn_size", "code_size", "head_size", "window"),
        *("num_given", "num_levels", "codec_id", "codec_revision", "codebook_size"),
    )
    return json.dumps({name: getattr(config, name) for name in names}, sort_keys=True)
