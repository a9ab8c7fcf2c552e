"""`Codes` <-> bits: a bitstream that decodes anywhere."""
