"""What untrained speakers are made of: sizes of tiny models that read letters, and a front end for them."""

from speechlm.errors import UnsupportedText
from speechlm.slm.text import SPECIALS

SIZES = {
    "symbols": [*SPECIALS, *"abcdefghijklmnopqrstuvwxyz ,.!?"],
    "hidden_size": 32,
    "num_layers": 1,
    "num_heads": 2,
    "ffn_size": 32,
    "max_frames_per_symbol": 5,
}


class Letters:
    """A front end without a dictionary: letters are the phonemes."""

    note = "Letters are spoken as they are."

    def phonemize(self, text: str) -> str:
        """The text in lower case."""
        if not text.strip():
            raise UnsupportedText("The text is empty; give at least one word to speak.")
        return text.lower()
