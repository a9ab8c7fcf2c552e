"""A tiny codec and a signal."""

from __future__ import annotations

import pytest
import torch
from tiny_codecs import tiny_codec, voice

from speechlm.tokenizer.codec import CodecModel


@pytest.fixture(scope="session")
def codec() -> CodecModel:
    return tiny_codec()


@pytest.fixture(scope="session")
def signal() -> torch.Tensor:
    return voice(16_000 + 123)
