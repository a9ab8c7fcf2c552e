"""How fresh weights are drawn, the same for both language models."""

from __future__ import annotations

import math

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init

from .transformer import Attention, FeedForward, RMSNorm

LOGIT_GAIN = 0.3  # first losses then start near log V


class InitializedModel(PreTrainedModel):
    """A `PreTrainedModel` whose `_init_weights` is asked about every part, blocks and heads too.

    Of models outside its own tree, transformers (5.20 to 5.23 at least) passes over parts without
    parameters of their own, as if these were loaded already, and rules for a block or a head as a whole
    would never be followed.
    """

    def _initialize_weights(self, module: nn.Module, is_custom_code: bool = False) -> None:
        has_own = next(module.parameters(recurse=False), None) is not None
        super()._initialize_weights(module, is_custom_code and has_own)


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
