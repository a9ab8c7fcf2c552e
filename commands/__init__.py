"""The commands, a file for each stretch of the road; `cli.py` puts them together."""
