"""Codes and text: the language models, how they generate, and `Speaker`, which says a text in a voice."""
