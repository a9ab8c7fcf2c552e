"""How fresh weights are drawn, the same for both language models."""

from __future__ import annotations

import math

from torch import Tensor, nn
from transformers import initialization as init

from .transformer import Attention, FeedForward, RMSNorm

LOGIT_GAIN = 0.3  # first losses then start near log V


def initialize(module: nn.Module, hidden_size: int, num_layers: int) -> None:
    """Draw one module's weights: unit gain everywhere, residual branches shrunk by their number."""
    if isinstance(module, nn.Linear):
        init.normal_(module.weight, std=module.in_features**-0.5)
        if module.bias is not None:
            init.zeros_(module.bias)
    elif isinstance(module, nn.Conv1d):
        fan_in = module.in_channels * module.kernel_size[0]
        init.normal_(module.weight, std=fan_in**-0.5)
        if module.bias is not None:
            init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        init.normal_(module.weight, std=hidden_size**-0.5)
    elif isinstance(module, RMSNorm):
        init.ones_(module.weight)
    elif isinstance(module, Attention | FeedForward):
        # Comes after its Linear children: two branches a block add up over the depth (GPT-2).
        fan_in = module.output.in_features
        init.normal_(module.output.weight, std=(fan_in * 2 * num_layers) ** -0.5)


def initialize_logits(weight: Tensor) -> None:
    """Draw the last map before a softmax, `[…, V, D]`, small."""
    init.normal_(weight, std=LOGIT_GAIN / math.sqrt(weight.shape[-1]))
