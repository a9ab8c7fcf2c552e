"""Cleaning of recordings: one file a step, each optional, each leaving a trace in the manifest."""

from __future__ import annotations

from .options import CleaningOptions
from .recording import Cleaned, Verdict, clean_recording

__all__ = ["Cleaned", "CleaningOptions", "Verdict", "clean_recording"]
