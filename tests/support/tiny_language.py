"""Tiny language models, and a made-up language in which every code is a known function of the text."""

import torch

from speechlm.slm.autoregressive import AutoregressiveModel
from speechlm.slm.config import AutoregressiveConfig, NonAutoregressiveConfig
from speechlm.slm.frame_decoder import FrameDecoder
from speechlm.slm.nonautoregressive import NonAutoregressiveModel
from speechlm.slm.prompt import Voice
from speechlm.slm.text import NO_TEXT, SPECIALS
from speechlm.tokenizer.codes import CodecIdentity

LETTERS = "abcdefgh"
V, K = 12, 3
IDENTITY = CodecIdentity("made-up", "0" * 16, 16_000, 320, V, K, 2)
SIZES = {
    "symbols": [*SPECIALS, *LETTERS],
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 2,
    "ffn_size": 64,
    "max_frames_per_symbol": 6,
    "ar_books": 2,
}


def ar_model(**changes: object) -> AutoregressiveModel:
    """An untrained model of the leading books."""
    torch.manual_seed(0)
    config = AutoregressiveConfig.for_codec(IDENTITY, **{**SIZES, **changes})
    return AutoregressiveModel(config).eval()


def nar_model(**changes: object) -> NonAutoregressiveModel:
    """An untrained model of the last book."""
    torch.manual_seed(0)
    config = NonAutoregressiveConfig.for_codec(IDENTITY, **{**SIZES, **changes})
    return NonAutoregressiveModel(config).eval()


def speak(symbols: torch.Tensor, voice: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes `[K, T]` and pointer `[T]` of a text: 2 to 4 frames a symbol, codes shifted by the voice."""
    durations = 2 + symbols % 3
    pointer = torch.repeat_interleave(torch.arange(len(symbols)), durations)
    age = torch.cat([torch.arange(int(d)) for d in durations])
    first = symbols[pointer] + age
    codes = torch.stack((first, 2 * first + voice, first + 5 * voice)) % V
    return codes, pointer


def text(length: int, seed: int) -> torch.Tensor:
    """A random text with its boundaries, int64 `[length + 2]`."""
    letters = torch.randint(3, 11, (length,), generator=torch.Generator().manual_seed(seed))
    return torch.cat((torch.ones(1), letters, torch.ones(1))).long()


def voice_of(number: int, *, num_symbols: int = 6) -> Voice:
    """A prompt that one of the made-up voices spoke, without its text."""
    codes, _ = speak(text(num_symbols, seed=100 + number), number)
    return Voice.without_text(codes, IDENTITY)


def batch_of(*items: tuple[Voice, torch.Tensor, int]) -> dict[str, torch.Tensor]:
    """A training batch: each item is a prompt, the target's symbols and the voice's number."""
    pad = torch.nn.utils.rnn.pad_sequence
    columns: dict[str, list[torch.Tensor]] = {"symbols": [], "codes": [], "pointer": []}
    for prompt, symbols, number in items:
        codes, pointer = speak(symbols, number)
        columns["symbols"].append(torch.cat((prompt.symbols, symbols)))
        columns["codes"].append(torch.cat((prompt.codes, codes), dim=1).T)
        columns["pointer"].append(torch.cat((prompt.pointer, pointer + len(prompt.symbols))))
    num_frames = torch.tensor([len(c) for c in columns["codes"]])
    prompt_frames = torch.tensor([p.codes.shape[1] for p, _, _ in items])
    frame = torch.arange(int(num_frames.max()))
    return {
        "symbols": pad(columns["symbols"], batch_first=True),
        "num_symbols": torch.tensor([len(s) for s in columns["symbols"]]),
        "codes": pad(columns["codes"], batch_first=True).transpose(1, 2),
        "num_frames": num_frames,
        "prompt_frames": prompt_frames,
        "pointer": pad(columns["pointer"], batch_first=True),
        "loss_mask": (frame >= prompt_frames[:, None]) & (frame < num_frames[:, None]),
    }


def some_batch() -> dict[str, torch.Tensor]:
    """Three items of different lengths; the last one has no prompt."""
    silent = Voice.without_text(torch.zeros(K, 0, dtype=torch.int64), IDENTITY)
    return batch_of(
        (voice_of(1), text(5, 1), 1),
        (voice_of(2, num_symbols=3), text(9, 2), 2),
        (silent, text(2, 3), 3),
    )


def alone(batch: dict[str, torch.Tensor], item: int) -> dict[str, torch.Tensor]:
    """One item of a batch without its padding."""
    frames, symbols = int(batch["num_frames"][item]), int(batch["num_symbols"][item])
    size = {"symbols": symbols}
    return {
        name: tensor[item : item + 1][..., : size.get(name, frames)]
        if tensor.dim() > 1
        else tensor[item : item + 1]
        for name, tensor in batch.items()
    }


def overfit(model: torch.nn.Module, steps: int, rate: float = 4e-3) -> list[float]:
    """Train on four sentences in four voices; the losses of all steps come back."""
    items = [(voice_of(n), text(6 + n, seed=n), n) for n in range(4)]
    batch = batch_of(*items)
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps + 1)
    losses = []
    model.train()
    for _ in range(steps):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    model.eval()
    return losses


assert NO_TEXT == 2  # the letters above begin behind the specials


@torch.no_grad()
def step_error(
    model: AutoregressiveModel, decoder: FrameDecoder, voice: Voice, symbols: torch.Tensor
) -> float:
    """Largest distance of logits of cached steps over what voice 1 says from those of one pass over it."""
    codes, pointer = speak(symbols, 1)
    batch = alone(batch_of((voice, symbols, 1)), 0)
    wanted = model(**batch, return_logits=True).logits[: codes.shape[1]]
    previous, age, worst = decoder.start, 0, 0.0
    for t in range(codes.shape[1]):
        age = age + 1 if t and pointer[t] == pointer[t - 1] else 0
        state = decoder.step(previous, pointer[t : t + 1], torch.tensor([age]))
        logits = model.book_logits(state, codes[None, :2, t])
        for book in range(2):
            got = logits[book][0, : wanted.shape[-1]]
            worst = max(worst, float((got - wanted[t, book]).abs().max()))
        previous = model.codes(codes[None, :2, t : t + 1]).sum(1)[:, 0]
    return worst
