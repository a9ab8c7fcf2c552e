"""Every error a user can cause, as one family.

A message says what is wrong, where, and what to do, in one sentence; the command line prints that
sentence without a traceback and exits with 1.
"""

from __future__ import annotations


class SpeechLMError(Exception):
    """Base of all errors that speechlm raises on purpose."""


class UnsupportedAudio(SpeechLMError):
    """An audio file or waveform that cannot be used: unreadable, empty, not finite, too short or too long."""


class CorpusError(SpeechLMError):
    """A corpus, manifest or transcript that cannot be read or does not fit together."""


class CorruptCodes(SpeechLMError):
    """A `.codes` file whose bytes or header are not what the format promises."""


class CorruptStream(SpeechLMError):
    """A bitstream or packet whose bytes are not what the format promises."""


class CorruptShard(SpeechLMError):
    """A token shard whose bytes, schema or checksum are not what was written."""


class ModelMismatch(SpeechLMError):
    """Codes, shards or models that were made for another codec or another model."""


class ConfigError(SpeechLMError):
    """A run or model configuration with an unknown key, a wrong type or values that contradict."""


class UnsupportedText(SpeechLMError):
    """A text that cannot be spoken: empty, or without a single known symbol."""


class MissingExtra(SpeechLMError):
    """A feature whose optional dependency is not installed."""


class CorruptWeights(SpeechLMError):
    """A model folder whose tensors have wrong names, wrong shapes or values that are not finite."""


class Stopped(SpeechLMError):
    """A run that was asked to stop (Ctrl-C, SIGTERM) and has kept what it did."""
