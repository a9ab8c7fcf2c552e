"""`CodeTask`: what trainings on codes alone share: shards of one codec, their rows, a model of that codec."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..data_prep.shards import open_datasets
from ..errors import ConfigError
from ..tokenizer.codec import CodecModel, load_codec
from ..tokenizer.codes import CodecIdentity
from ..transmission.frame_model import FrameModel
from ..transmission.masked_model import MaskedModel
from ..transmission.models import WEIGHTS
from .config import SHIPPED
from .start import start_code_model
from .transmission_tables import StaticTables
from .utterances import Utterances

VALIDATION_ROWS = 128
_Model = TypeVar("_Model", bound=FrameModel | MaskedModel)


class CodeTask:
    """Utterances of codes, for a model that a subclass makes.

    Args:
        folders: Token datasets of one codec.
        codec: Folder of that codec, or `shipped`; None if the recipe names none.
        seed: Of the model's first weights.

    Attributes:
        identity: The codec of the codes.
        codec: That codec itself, if the recipe names it.
        last_book: Books that are read.
        rows, valid_rows: Utterances of two frames and more.
        fingerprint: Hash of what is trained on.

    Raises:
        SpeechLMError: If the shards are missing, or are not all of one codec, or of another than `codec`.
    """

    def __init__(self, folders: Sequence[str], codec: str | None, seed: int) -> None:
        self._train = open_datasets(folders, split="train")
        self.identity: CodecIdentity = self._train[0].identity
        self._valid = open_datasets(folders, split="valid", codec=self.identity)
        self._folder = folders[0]
        self.codec: CodecModel | None = None
        if codec is not None:
            self.codec = load_codec(None if codec == SHIPPED else Path(codec))
            self.codec.identity.require(self.identity, f"The token dataset {self._folder}")
        torch.manual_seed(seed)

    def first_model(
        self, kind: type[_Model], shipped: str, asked: Mapping[str, Any], start_from: str | None
    ) -> _Model:
        """A trained model, or a fresh one, which knows how its codes sound if the recipe names the codec.

        Args:
            kind: Its class.
            shipped: Name of the folder of the weights that ship.
            asked: Section `model` of the recipe.
            start_from: Whose weights it begins with, as `start_code_model` takes it; None for none.

        Raises:
            SpeechLMError: As `start_code_model`.
        """
        if start_from is not None:
            return start_code_model(start_from, kind, WEIGHTS / shipped, self.identity, asked)
        config: Any = kind.config_class.for_codec(self.identity, **asked)
        model = kind(config)
        if self.codec is not None:
            model.take_codebooks(self.codec.quantizer.codebooks)
        return model

    def read_rows(self, last_book: int) -> None:
        """Find the utterances, once the model says how many books it reads.

        Raises:
            ConfigError: If a dataset holds fewer.
        """
        held = min(shards.num_books for shards in [*self._train, *self._valid])
        if last_book > held:
            raise ConfigError(
                f"The model reads {last_book} books, {self._folder} holds {held}; "
                "tokenize with all of them."
            )
        self.last_book = last_book
        self.rows = Utterances(self._train, lambda row: row.num_frames > 1)
        self.valid_rows = Utterances(self._valid, lambda row: row.num_frames > 1)
        self.fingerprint = hashlib.sha256(
            json.dumps([shards.fingerprint for shards in self._train]).encode()
        ).hexdigest()

    @cached_property
    def validation_codes(self) -> list[Tensor]:
        """Codes int64 `[K, T]` of held-out utterances, spread evenly over them."""
        count = min(VALIDATION_ROWS, len(self.valid_rows))
        numbers = np.linspace(0, len(self.valid_rows) - 1, count).astype(int).tolist()
        return [self.valid_rows[number].codes[: self.last_book] for number in numbers]

    def static_tables(self, books: range) -> StaticTables:
        """Tables of some books, counted on what is trained on."""
        rows = (self.rows[index].codes for index in range(len(self.rows)))
        return StaticTables(rows, books, self.identity.codebook_size)
