"""Speech made by a synthesizer, with phonemes and durations, in the layout that `prepare` reads."""
