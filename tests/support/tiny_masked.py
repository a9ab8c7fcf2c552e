"""A tiny masked model."""

import torch
from tiny_transmission import CODEC

from speechlm.transmission.config import MaskedConfig
from speechlm.transmission.masked_model import MaskedModel

MASKED_SIZES = {
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 2,
    "ffn_size": 48,
    "code_size": 16,
    "head_size": 24,
    "window": 9,
    "future_frames": 2,
}


def masked_model(seed=0, sharpness=8.0, codec=CODEC, **changes):
    """An untrained model whose distributions are far from flat."""
    torch.manual_seed(seed)
    model = MaskedModel(MaskedConfig.for_codec(codec, **{**MASKED_SIZES, **changes})).eval()
    with torch.no_grad():
        for head in model.heads:
            head.logits.weight.mul_(sharpness)
    return model
