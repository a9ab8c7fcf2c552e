"""`EntropyModel`: how likely each code that is sent is, given all codes sent before it.

This is the first of LMCodec's two Transformers (Jenrungrot et al. 2023, arXiv 2303.12984): its
distributions drive the entropy coder. Sizes are ours. It is trained in floating point; what coders run
is its integer twin (`integer_model.py`), for floating-point sums differ between machines.
"""

from __future__ import annotations

from transformers import AutoConfig, AutoModel

from .config import EntropyConfig
from .frame_model import FrameModel


class EntropyModel(FrameModel):
    """Predicts the base books of every frame from the frames before, level by level."""

    config_class = EntropyConfig
    config: EntropyConfig
    base_model_prefix = "entropy"


AutoConfig.register(EntropyConfig.model_type, EntropyConfig, exist_ok=True)
AutoModel.register(EntropyConfig, EntropyModel, exist_ok=True)
