"""Where in its transcript each frame of a recording is, by the language model's own judgement."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UnsupportedText
from .autoregressive import AutoregressiveModel
from .group_decoder import GroupDecoder, decoder_for
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
    decoder = decoder_for(model, [symbols], [prompt], num_frames)
    decoder.repeat(beam)
    codes = voice.codes[: model.config.ar_books].to(model.device)
    frames = model.previous_codes(codes[None])[0, 1:]
    # One row a path, all of it on the model's device; at first only the first row is a path.
    row = torch.arange(beam, device=model.device)
    symbol, age = torch.zeros(2, beam, dtype=torch.int64, device=model.device)
    score = torch.where(row == 0, 0.0, -torch.inf)
    previous = decoder.start
    history: list[tuple[Tensor, Tensor]] = []
    for t in range(num_frames):
        state = decoder.step(previous, symbol.clamp(max=last), age.clamp(max=longest))
        known = codes[:, t].expand(beam, -1)
        for book, logits in enumerate(model.book_logits(state, known)):
            score = score - F.cross_entropy(logits, known[:, book], reduction="none")
        leaves = model.advance(state)[:, 0]
        # Every path may stay (first half) or move on (second half).
        scores = torch.cat((score + F.logsigmoid(-leaves), score + F.logsigmoid(leaves)))
        symbols_next = torch.cat((symbol, symbol + 1))
        ages = torch.cat((age + 1, torch.zeros_like(age)))
        # What is left of the text must fit what is left of the recording, to the last frame.
        frames_left, symbols_left = num_frames - t - 1, last + 1 - symbols_next
        fits = (ages < longest) & (symbols_left <= frames_left)
        fits &= longest * symbols_left - ages >= frames_left
        scores = scores.masked_fill(~fits, -torch.inf)
        chosen = _best_per_symbol(scores, symbols_next, beam).to(model.device)
        kept = torch.where(chosen < 0, row, chosen)
        parent = kept % beam
        history.append((symbol, parent))
        if isinstance(decoder, GroupDecoder):
            decoder.reorder(parent)
        else:
            decoder.cache.reorder(parent, start=num_frames)
        symbol, age = symbols_next[kept], ages[kept]
        score = scores[kept].masked_fill(chosen < 0, -torch.inf)
        previous = frames[t].expand(beam, -1)
    return _trace(history, int(score.argmax()))


def _best_per_symbol(scores: Tensor, symbols: Tensor, beam: int) -> Tensor:
    """Which of the 2 x `beam` continuations each row takes over: the best of each symbol.

    A continuation stays in its parent's row where it can, so that little of the cache moves. A row
    that is left over gets -1.
    """
    rows, waiting = [-1] * beam, []
    seen: set[int] = set()
    for index in scores.argsort(descending=True, stable=True).tolist():
        symbol = int(symbols[index])
        if symbol in seen or len(seen) == beam or scores[index] == -torch.inf:
            continue
        seen.add(symbol)
        if rows[index % beam] < 0:
            rows[index % beam] = index
        else:
            waiting.append(index)
    for row in range(beam):
        if rows[row] < 0:
            rows[row] = waiting.pop() if waiting else -1
    return torch.tensor(rows)


def _trace(history: list[tuple[Tensor, Tensor]], index: int) -> Tensor:
    """Walk back from row `index` after the last frame: (symbol, parents) of every frame."""
    path = []
    for symbol, parents in reversed(history):
        index = int(parents[index])
        path.append(int(symbol[index]))
    return torch.tensor(path[::-1])
