"""Optimisation of everything in `tokenizer` and `slm`."""
