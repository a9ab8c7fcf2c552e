"""Where in its transcript each frame of a recording is, by the language model's own judgement."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UnsupportedText
from .autoregressive import AutoregressiveModel
from .generate import FrameDecoder
from .prompt import Voice

DEFAULT_BEAM = 12  # symbols followed at once; 6 to 8 a second of hesitation are enough


@torch.inference_mode()
def align(
    model: AutoregressiveModel, symbols: Tensor, voice: Voice, *, beam: int = DEFAULT_BEAM
) -> Tensor:
    """The pointer under which the model finds a recording likeliest.

    A Viterbi search over stay and advance. The model's past depends on the whole path, so each
    symbol keeps the cache of its best path only, and symbols far behind the best are dropped. The
    recording, without its text, is also the prompt: the model knows the voice and judges the words.

    Args:
        model: An autoregressive model with the pointer alignment.
        symbols: int64 `[S]`, boundaries included.
        voice: The recording's codes, at least `ar_books` of them.
        beam: Symbols followed at once.

    Returns:
        int64 `[T]`: begins at 0, ends at S - 1, moves by 0 or 1.

    Raises:
        UnsupportedText: If the transcript cannot fit the recording at one frame a symbol, or at
            `max_frames_per_symbol`.
    """
    num_frames, longest = voice.codes.shape[1], model.config.max_frames_per_symbol
    last = len(symbols) - 1
    if not len(symbols) <= num_frames <= longest * len(symbols):
        raise UnsupportedText(
            f"The prompt's text has {len(symbols)} symbols and its recording {num_frames} frames, "
            "which cannot belong together; correct the text, or leave it out."
        )
    prompt = Voice.without_text(voice.codes, voice.identity)
    decoder = FrameDecoder(model, [symbols], [prompt], num_frames)
    codes = voice.codes[: model.config.ar_books].to(model.device)
    frames = model.previous_codes(codes[None])[0, 1:]
    symbol = torch.zeros(1, dtype=torch.int64, device=model.device)
    age, score = torch.zeros_like(symbol), torch.zeros(1, device=model.device)
    previous = decoder.start
    history: list[tuple[Tensor, Tensor]] = []
    for t in range(num_frames):
        state = decoder.step(previous, symbol, age)
        known = codes[:, t].expand(len(symbol), -1)
        for book, logits in enumerate(model.book_logits(state, known)):
            score = score - F.cross_entropy(logits, known[:, book], reduction="none")
        leaves = model.advance(state)[:, 0]
        # Every path may stay (first half) or move on (second half).
        parent = torch.arange(len(symbol), device=model.device).repeat(2)
        scores = torch.cat((score + F.logsigmoid(-leaves), score + F.logsigmoid(leaves)))
        symbols_next = torch.cat((symbol, symbol + 1))
        ages = torch.cat((age + 1, torch.zeros_like(age)))
        # What is left of the text must fit what is left of the recording, to the last frame.
        frames_left, symbols_left = num_frames - t - 1, last + 1 - symbols_next
        fits = (ages < longest) & (symbols_left <= frames_left)
        fits &= longest * symbols_left - ages >= frames_left
        scores = scores.masked_fill(~fits, -torch.inf)
        kept = _best_per_symbol(scores, symbols_next, beam)
        history.append((symbol, parent[kept]))
        decoder.select(parent[kept])
        symbol, age, score = symbols_next[kept], ages[kept], scores[kept]
        previous = frames[t].expand(len(kept), -1)
    return _trace(history)


def _best_per_symbol(scores: Tensor, symbols: Tensor, beam: int) -> Tensor:
    """Indices of the best path of each symbol, at most `beam` of them, best first."""
    kept: list[int] = []
    seen: set[int] = set()
    for index in scores.argsort(descending=True, stable=True).tolist():
        symbol = int(symbols[index])
        if symbol not in seen and scores[index] > -torch.inf:
            seen.add(symbol)
            kept.append(index)
    return torch.tensor(kept[:beam], device=scores.device)


def _trace(history: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Walk back from the one path that left the last symbol: (symbol, parents) of every frame."""
    path, index = [], 0
    for symbol, parents in reversed(history):
        index = int(parents[index])
        path.append(int(symbol[index]))
    return torch.tensor(path[::-1])
