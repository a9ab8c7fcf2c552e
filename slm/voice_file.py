"""A prepared voice as a file: safetensors with the prompt's codes, so that no speech pays for them again.

`codes [K, P]`, `symbols [S]` and `pointer [P]` are int32 tensors; the metadata key `speechlm` holds the
format, the codec's identity, the vocabulary of the symbols, the loudness and a note on the source.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import torch
from torch import Tensor

from ..errors import CorruptCodes
from ..tokenizer.codes import CodecIdentity
from ..tokenizer.files import write_atomically
from ..tokenizer.paths import require_file
from .pieces import PieceTokenizer
from .prompt import Voice
from .shipped import require_voice_target
from .text import NO_TEXT, SymbolTable, Vocabulary

FORMAT = "speechlm-voice-1"
MAX_FILE_BYTES = 1 << 20
MAX_FRAMES = 4096
MAX_NOTE_CHARACTERS = 1000
_TENSORS = ("codes", "pointer", "symbols")
_FIELDS = {"format", "codec", "vocabulary", "loudness_dbfs", "source"}


def vocabulary_id(vocabulary: Vocabulary) -> str:
    """Names a vocabulary by its content: the first 16 hex digits of a SHA-256."""
    if isinstance(vocabulary, SymbolTable):
        data = json.dumps(vocabulary.symbols, ensure_ascii=False).encode()
    elif isinstance(vocabulary, PieceTokenizer):
        data = vocabulary.model
    else:
        data = str(vocabulary.size).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def save_voice(voice: Voice, path: str | os.PathLike[str]) -> None:
    """Write a voice; equal voices give equal bytes.

    Raises:
        ConfigError: If the name does not end as voices do, by which `say --prompt` knows them.
        OSError: If the file cannot be written.
    """
    from safetensors.torch import save

    require_voice_target(path)
    header = {
        "format": FORMAT,
        "codec": json.loads(voice.identity.to_json()),
        "vocabulary": voice.vocabulary,
        "loudness_dbfs": voice.loudness_dbfs,
        "source": voice.source[:MAX_NOTE_CHARACTERS],
    }
    tensors = {name: getattr(voice, name).to("cpu", torch.int32).contiguous() for name in _TENSORS}
    write_atomically(path, save(tensors, {"speechlm": json.dumps(header, sort_keys=True)}))


def load_voice(path: str | os.PathLike[str]) -> Voice:
    """Read what `save_voice` wrote; whether it fits a model is asked when it speaks.

    Raises:
        CorruptCodes: If the file is missing, too large, damaged, or no voice.
    """
    from safetensors import SafetensorError, safe_open

    name = require_file(path, CorruptCodes, "a file written by `speechlm voice`")
    if name.stat().st_size > MAX_FILE_BYTES:
        raise CorruptCodes(f"{name} is larger than {MAX_FILE_BYTES >> 20} MiB and was not read.")
    try:
        with safe_open(name, "pt") as file:
            header = _header((file.metadata() or {}).get("speechlm", ""))
            if sorted(file.keys()) != sorted(_TENSORS):
                raise ValueError(f"it does not hold exactly {', '.join(_TENSORS)}")
            tensors = {key: file.get_tensor(key) for key in _TENSORS}
        identity = CodecIdentity.from_json(json.dumps(header["codec"]))
        _require_whole(tensors, identity)
        if not header["vocabulary"] and tensors["symbols"].tolist() != [NO_TEXT]:
            raise ValueError("it does not say which symbols its text is written in")
        loudness = header["loudness_dbfs"]
        return Voice(
            codes=tensors["codes"].long(),
            symbols=tensors["symbols"].long(),
            pointer=tensors["pointer"].long(),
            identity=identity,
            vocabulary=str(header["vocabulary"]),
            loudness_dbfs=None if loudness is None else float(loudness),
            source=str(header["source"])[:MAX_NOTE_CHARACTERS],
        )
    except (SafetensorError, OSError, ValueError, TypeError, CorruptCodes) as error:
        raise CorruptCodes(
            f"{name} is no usable voice ({error}); prepare it again by `speechlm voice`."
        ) from error


def _header(text: str) -> dict[str, Any]:
    header = json.loads(text) if text else {}
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"it is not of the format {FORMAT}")
    if set(header) != _FIELDS:
        raise ValueError("its header has other fields than a voice")
    return header


def _require_whole(tensors: dict[str, Tensor], identity: CodecIdentity) -> None:
    """Refuse tensors that are no voice: shapes, ranges, and how the pointer walks."""
    codes, symbols, pointer = (tensors[key] for key in ("codes", "symbols", "pointer"))
    if any(t.dtype != torch.int32 for t in tensors.values()):
        raise ValueError("its tensors are not int32")
    if codes.dim() != 2 or pointer.shape != codes.shape[1:] or symbols.dim() != 1:
        raise ValueError(f"its tensors have shapes {[list(t.shape) for t in tensors.values()]}")
    books, frames = codes.shape
    if not (identity.min_codebooks <= books <= identity.num_codebooks):
        raise ValueError(f"it has {books} codebooks")
    if not (1 <= frames <= MAX_FRAMES and 1 <= len(symbols) <= MAX_FRAMES):
        raise ValueError(f"it has {frames} frames and {len(symbols)} symbols")
    if not 0 <= int(codes.min()) <= int(codes.max()) < identity.codebook_size:
        raise ValueError(f"a code lies outside 0 to {identity.codebook_size - 1}")
    if int(symbols.min()) < 0:
        raise ValueError("a symbol is negative")
    steps = pointer.diff()
    if int(pointer[0]) != 0 or (len(steps) and not 0 <= int(steps.min()) <= int(steps.max()) <= 1):
        raise ValueError("its pointer does not walk by steps of none or one")
    if int(pointer[-1]) >= len(symbols):
        raise ValueError("its pointer leaves the symbols")
