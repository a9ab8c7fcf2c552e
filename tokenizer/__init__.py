"""Waveform <-> `Codes`: the codec as a model users load."""
