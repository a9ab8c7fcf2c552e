"""Speech language models on codec tokens.

Public names load on first use, so that `import speechlm` stays instant and imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .errors import SpeechLMError

if TYPE_CHECKING:
    from .slm.autoregressive import AutoregressiveModel
    from .slm.hub import SpeechModel
    from .slm.lines import Line, read_lines
    from .slm.nonautoregressive import NonAutoregressiveModel
    from .slm.processing import SpeechProcessor
    from .slm.prompt import Voice
    from .slm.shipped import shipped_voices
    from .slm.speak import Speaker, Speech
    from .slm.transcribe import WhisperTranscriber
    from .slm.voice_file import load_voice, save_voice
    from .tokenizer.audio import read_audio, write_audio
    from .tokenizer.codec import CodecModel, load_codec
    from .tokenizer.codes import CodecIdentity, Codes
    from .tokenizer.config import CodecConfig
    from .tokenizer.processing import CodecFeatureExtractor
    from .tokenizer.stream import CodecStream
    from .transmission.compressor import Compressor
    from .transmission.decompressor import Decompressor

__version__ = "0.1.0"

__all__ = [
    "AutoregressiveModel",
    "CodecConfig",
    "CodecFeatureExtractor",
    "CodecIdentity",
    "CodecModel",
    "CodecStream",
    "Codes",
    "Compressor",
    "Decompressor",
    "Line",
    "NonAutoregressiveModel",
    "Speaker",
    "Speech",
    "SpeechLMError",
    "SpeechModel",
    "SpeechProcessor",
    "Voice",
    "WhisperTranscriber",
    "__version__",
    "load_codec",
    "load_voice",
    "read_audio",
    "read_lines",
    "save_voice",
    "shipped_voices",
    "write_audio",
]

# Must say the same as the imports above; tests/test_architecture.py compares the two.
_HOMES = {
    "AutoregressiveModel": ".slm.autoregressive",
    "CodecConfig": ".tokenizer.config",
    "CodecFeatureExtractor": ".tokenizer.processing",
    "CodecIdentity": ".tokenizer.codes",
    "CodecModel": ".tokenizer.codec",
    "CodecStream": ".tokenizer.stream",
    "Codes": ".tokenizer.codes",
    "Compressor": ".transmission.compressor",
    "Decompressor": ".transmission.decompressor",
    "Line": ".slm.lines",
    "NonAutoregressiveModel": ".slm.nonautoregressive",
    "Speaker": ".slm.speak",
    "Speech": ".slm.speak",
    "SpeechModel": ".slm.hub",
    "SpeechProcessor": ".slm.processing",
    "Voice": ".slm.prompt",
    "WhisperTranscriber": ".slm.transcribe",
    "load_codec": ".tokenizer.codec",
    "load_voice": ".slm.voice_file",
    "read_audio": ".tokenizer.audio",
    "read_lines": ".slm.lines",
    "save_voice": ".slm.voice_file",
    "shipped_voices": ".slm.shipped",
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
