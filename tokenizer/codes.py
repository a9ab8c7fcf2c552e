"""`Codes`: the one value that every part of speechlm speaks.

Shape letters, fixed in the whole project: B batch, K codebooks, T frames, L samples, D width,
V codebook entries, S text positions. Codes are always `[B, K, T]`.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import torch
from torch import Tensor

from ..errors import CorruptCodes, ModelMismatch
from .files import write_atomically
from .paths import require_file

FORMAT_VERSION = 1
MAX_FILE_BYTES = 512 << 20  # about 60 days of speech at 3 kbps; refuses absurd files before reading
MAX_FRAMES = 1 << 26


@dataclass(frozen=True)
class CodecIdentity:
    """What codes must agree on before anyone decodes them.

    Attributes:
        codec_id: Name of the codec configuration, for people.
        revision: Hash of the weights, for machines (first 16 hex digits of a SHA-256).
        sampling_rate: Samples per second of the decoded waveform.
        hop_length: Samples per frame.
        codebook_size: V, entries per codebook.
        num_codebooks: K, all books of the codec; a `Codes` value may hold fewer.
        num_masked_books: How many leading books are peers (MCRVQ); fewer cannot be decoded.
    """

    codec_id: str
    revision: str
    sampling_rate: int
    hop_length: int
    codebook_size: int
    num_codebooks: int
    num_masked_books: int

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second."""
        return self.sampling_rate / self.hop_length

    @property
    def min_codebooks(self) -> int:
        """The fewest books that decode to speech."""
        return max(1, self.num_masked_books)

    def to_json(self) -> str:
        """One line of JSON, keys sorted, as stored in shards and `.codes` files."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> CodecIdentity:
        """Read what `to_json` wrote.

        Raises:
            CorruptCodes: If a field is missing, unknown or of the wrong type.
        """
        try:
            raw = json.loads(text)
            if set(raw) != {f.name for f in fields(cls)}:
                raise ValueError("fields " + ", ".join(sorted(raw)))
            identity = cls(
                str(raw["codec_id"]),
                str(raw["revision"]),
                *(int(raw[f.name]) for f in fields(cls)[2:]),
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise CorruptCodes(f"The codec identity is not readable ({error}).") from error
        if (
            min(
                identity.sampling_rate,
                identity.hop_length,
                identity.codebook_size,
                identity.num_codebooks,
            )
            < 1
        ):
            raise CorruptCodes("The codec identity holds a size below one.")
        return identity

    def require(self, other: CodecIdentity, where: str) -> None:
        """Refuse codes of another codec.

        Raises:
            ModelMismatch: If the two identities differ; `where` names the bearer of `other`.
        """
        if self != other:
            raise ModelMismatch(
                f"{where} was made with codec {other.codec_id} revision {other.revision}, but "
                f"{self.codec_id} revision {self.revision} is loaded; tokenize again, or load that codec."
            )


@dataclass(frozen=True)
class Codes:
    """Codec tokens of one or more utterances.

    Attributes:
        values: int64 `[B, K, T]`, each in `[0, V)`; frames past an item's length are 0.
        num_samples: int64 `[B]`, samples of each item's waveform.
        identity: The codec that made them.
    """

    values: Tensor
    num_samples: Tensor
    identity: CodecIdentity

    def __post_init__(self) -> None:
        if self.values.dim() != 3 or self.values.dtype != torch.int64:
            raise CorruptCodes(
                f"Codes must be int64 [B, K, T], got {self.values.dtype} {list(self.values.shape)}."
            )
        batch, books, frames = self.values.shape
        if self.num_samples.shape != (batch,):
            raise CorruptCodes(
                f"{batch} items of codes came with {self.num_samples.numel()} sample counts."
            )
        if not self.identity.min_codebooks <= books <= self.identity.num_codebooks:
            raise CorruptCodes(
                f"{books} codebooks given, codec {self.identity.codec_id} takes "
                f"{self.identity.min_codebooks} to {self.identity.num_codebooks}."
            )
        if batch and int(self.lengths.max()) > frames:
            raise CorruptCodes(
                f"The sample counts ask for {int(self.lengths.max())} frames, {frames} are there."
            )
        if (
            self.values.numel()
            and not 0
            <= int(self.values.min())
            <= int(self.values.max())
            < self.identity.codebook_size
        ):
            raise CorruptCodes(f"A code lies outside 0 to {self.identity.codebook_size - 1}.")

    @property
    def lengths(self) -> Tensor:
        """Frames of each item, int64 `[B]`."""
        hop = self.identity.hop_length
        return (self.num_samples + hop - 1) // hop

    @property
    def bits_per_second(self) -> float:
        """Raw bit rate of the books held here, without entropy coding."""
        bits = (self.identity.codebook_size - 1).bit_length()
        return self.values.shape[1] * bits * self.identity.frame_rate_hz

    def item(self, index: int) -> Tensor:
        """Codes of one utterance without padding, `[K, T_i]`."""
        return self.values[index, :, : int(self.lengths[index])]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a `.codes` file (safetensors, with identity and checksum in the metadata).

        Equal codes give equal bytes.
        """
        from safetensors.torch import save

        narrow = torch.int16 if self.identity.codebook_size <= 1 << 15 else torch.int32
        tensors = {"values": self.values.to(narrow).contiguous(), "num_samples": self.num_samples}
        codec = self.identity.to_json()
        metadata = {
            "format": f"speechlm-codes-{FORMAT_VERSION}",
            "codec": codec,
            "crc32": _checksum(codec, tensors),
        }
        write_atomically(path, _in_order(save(tensors, metadata)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Codes:
        """Read a `.codes` file.

        Raises:
            CorruptCodes: If the file is missing, too large, not safetensors, or not a valid `Codes`.
        """
        from safetensors import SafetensorError, safe_open

        name = require_file(path, CorruptCodes, "a file written by `speechlm encode`")
        if name.stat().st_size > MAX_FILE_BYTES:
            raise CorruptCodes(
                f"{name} is larger than {MAX_FILE_BYTES >> 20} MiB and was not read."
            )
        try:
            with safe_open(name, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != f"speechlm-codes-{FORMAT_VERSION}":
                    raise CorruptCodes(f"it is not a codes file of version {FORMAT_VERSION}.")
                if set(file.keys()) != {"values", "num_samples"}:
                    raise CorruptCodes("it does not hold exactly `values` and `num_samples`.")
                shape = file.get_slice("values").get_shape()
                if len(shape) != 3 or shape[-1] > MAX_FRAMES:
                    raise CorruptCodes(f"its codes have the shape {shape}.")
                values, num_samples = file.get_tensor("values"), file.get_tensor("num_samples")
            found = _checksum(
                metadata.get("codec", ""), {"values": values, "num_samples": num_samples}
            )
            if metadata.get("crc32", found) != found:  # files of before have none
                raise CorruptCodes(
                    "its checksum does not fit; it was damaged on its way, fetch it again."
                )
            if values.is_floating_point() or num_samples.is_floating_point():
                raise CorruptCodes("its tensors are not integers.")
            if num_samples.numel() and int(num_samples.min()) < 1:
                raise CorruptCodes("an item has no samples.")
            return cls(
                values.long(),
                num_samples.long(),
                CodecIdentity.from_json(metadata.get("codec", "")),
            )
        except CorruptCodes as error:
            raise CorruptCodes(f"{name} cannot be used: {error}") from error
        except (SafetensorError, OSError, ValueError) as error:
            raise CorruptCodes(
                f"{name} is no .codes file, or a damaged one; give what `speechlm encode` wrote "
                "(an .lmc stream is for `speechlm decompress`)."
            ) from error


def _checksum(codec: str, tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 of the codec's identity, the codes and the sample counts, eight hex digits."""
    found = zlib.crc32(codec.encode())
    for name in ("values", "num_samples"):
        found = zlib.crc32(tensors[name].contiguous().numpy().tobytes(), found)
    return f"{found:08x}"


def _in_order(file: bytes) -> bytes:
    """The same safetensors file with the keys of its header sorted; the library draws their order."""
    start = 8 + int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors stay aligned
    return len(header).to_bytes(8, "little") + header + file[start:]
