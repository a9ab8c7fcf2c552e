"""A codec as two ONNX files, for runtimes without torch; what stands in them is in `onnx_graphs.py`."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import MissingExtra
from .codec import CodecModel
from .files import write_atomically
from .onnx_graphs import DecoderGraph, EncoderGraph

OPSET = 18
_Axes = dict[str, tuple[str | int, ...]]


def export_onnx(codec: CodecModel, folder: Path) -> None:
    """Write a codec as `encoder.onnx`, `decoder.onnx` and `onnx.json`.

    The encoder takes `input_values`, float32 `[B, L]` of any L from 1, and gives `audio_codes`, int64
    `[B, K, ceil(L / hop)]`. The decoder takes `audio_codes` `[B, k, T]` for any k from the masked count (at
    least 1) to K, and gives `audio_values`, float32 `[B, T * hop]`; with a harmonic source it also takes
    `noise_seed`, int64 `[]`. The items of a batch have one length. A runtime that checks indices, as
    onnxruntime does, refuses fewer books and codes outside `[0, V)`, negative ones too.

    Args:
        codec: The codec; it is not changed.
        folder: Made if need be.

    Raises:
        MissingExtra: If onnx or onnxscript is not installed.
    """
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript")):
        raise MissingExtra(
            "ONNX export needs the packages onnx and onnxscript; "
            "install them with `pip install -e '.[export]'` in a checkout."
        )
    config, identity = codec.config, codec.identity
    waveform = torch.zeros(2, 5 * config.hop_length + 1)
    axes: _Axes = {
        "input_values": ("batch", "samples"),
        "audio_codes": ("batch", config.num_codebooks, "frames"),
    }
    encoder = _graph(EncoderGraph(codec), {"input_values": waveform}, axes)
    inputs = {"audio_codes": torch.zeros(2, config.num_codebooks, 5, dtype=torch.long)}
    # with one number of books to choose from there is nothing to leave open
    is_open = identity.min_codebooks < config.num_codebooks
    decoder_axes: _Axes = {
        "audio_codes": ("batch", "books" if is_open else config.num_codebooks, "frames"),
        "audio_values": ("batch", "samples"),
    }
    if config.has_harmonic_source:
        inputs["noise_seed"], decoder_axes["noise_seed"] = torch.tensor(0), ()
    decoder = _graph(DecoderGraph(codec), inputs, decoder_axes)
    about: dict[str, Any] = {"format": 1, "opset": OPSET, "codec": dataclasses.asdict(identity)}
    about["fewest_books"] = identity.min_codebooks
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in (("encoder", encoder), ("decoder", decoder)):
        model.metadata_props.add(key="codec", value=identity.to_json())
        write_atomically(folder / f"{name}.onnx", model.SerializeToString())
        about[name] = {
            "file": f"{name}.onnx",
            "inputs": {value.name: _shape(value) for value in model.graph.input},
            "outputs": {value.name: _shape(value) for value in model.graph.output},
        }
    write_atomically(folder / "onnx.json", (json.dumps(about, indent=2) + "\n").encode())


def _graph(module: nn.Module, inputs: dict[str, Tensor], axes: _Axes) -> Any:
    """One module as an ONNX model.

    Args:
        module: What to trace.
        inputs: Example values by name.
        axes: Shapes of inputs and of the output by name; axes that have a name are left open.
    """
    shapes = {
        name: {
            axis: torch.export.Dim.DYNAMIC
            for axis, size in enumerate(axes[name])
            if isinstance(size, str)
        }
        for name in inputs
    }
    with torch.no_grad(), _quietly():
        traced = torch.export.export(
            module.eval(), (), kwargs=inputs, dynamic_shapes=shapes, strict=False
        )
        program = torch.onnx.export(
            traced,
            kwargs=inputs,
            input_names=list(inputs),
            output_names=[name for name in axes if name not in inputs],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    model = program.model_proto  # type: ignore[union-attr]
    graph = model.graph
    for value in (*graph.input, *graph.output):
        for dim, size in zip(value.type.tensor_type.shape.dim, axes[value.name], strict=True):
            if isinstance(size, str):
                dim.dim_param = size
            else:
                dim.dim_value = size
    # shapes in between speak of the tracer's symbols, and notes on nodes of this machine's paths
    graph.ClearField("value_info")
    for part in (graph, *graph.node, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model


def _shape(value: Any) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the exporter's notes about itself from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
