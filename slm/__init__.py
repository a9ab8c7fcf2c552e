"""Codes and text: the language models, how they generate, and `Speaker`, which joins them."""
