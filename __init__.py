"""Speech language models on codec tokens.

Public names load on first use, so that `import speechlm` stays instant and imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .errors import SpeechLMError

if TYPE_CHECKING:
    from .slm.autoregressive import AutoregressiveModel
    from .slm.nonautoregressive import NonAutoregressiveModel
    from .slm.speak import Speaker, Speech
    from .tokenizer.audio import read_audio, write_audio
    from .tokenizer.codec import CodecModel, load_codec
    from .tokenizer.codes import CodecIdentity, Codes
    from .tokenizer.config import CodecConfig
    from .tokenizer.processing import CodecFeatureExtractor
    from .tokenizer.stream import CodecStream

__version__ = "0.1.0"

__all__ = [
    "AutoregressiveModel",
    "CodecConfig",
    "CodecFeatureExtractor",
    "CodecIdentity",
    "CodecModel",
    "CodecStream",
    "Codes",
    "NonAutoregressiveModel",
    "Speaker",
    "Speech",
    "SpeechLMError",
    "__version__",
    "load_codec",
    "read_audio",
    "write_audio",
]

# Must say the same as the imports above; tests/test_architecture.py compares the two.
_HOMES = {
    "AutoregressiveModel": ".slm.autoregressive",
    "CodecConfig": ".tokenizer.config",
    "CodecFeatureExtractor": ".tokenizer.processing",
    "CodecIdentity": ".tokenizer.codes",
    "CodecModel": ".tokenizer.codec",
    "Codes": ".tokenizer.codes",
    "NonAutoregressiveModel": ".slm.nonautoregressive",
    "Speaker": ".slm.speak",
    "Speech": ".slm.speak",
    "load_codec": ".tokenizer.codec",
    "CodecStream": ".tokenizer.stream",
    "read_audio": ".tokenizer.audio",
    "write_audio": ".tokenizer.audio",
}


def __getattr__(name: str) -> object:
    """Import a public name from its module when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name], __name__), name)
    globals()[name] = value  # the next access no longer comes here
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(set(globals()) | set(__all__))
