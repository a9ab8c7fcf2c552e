"""What int8 and bf16 weights cost in quality: the shipped model, teacher-forced, beside its own float32.

    python benchmarks/precision.py --json build/precision.json

Utterances that the model itself speaks (float32, seeded) are forced, and the recordings behind the shipped
voices where they bring their text and pointer. `kl` is the divergence of the float32 distribution from the
precision's in nats a code; `top1` how often both find the same code likeliest; `loss` the mean negative
log-likelihood a code.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from speechlm.slm.alignment import pointer_age
from speechlm.slm.autoregressive import AutoregressiveModel
from speechlm.slm.frame_decoder import FrameDecoder
from speechlm.slm.generate import generate_batch
from speechlm.slm.prompt import Voice
from speechlm.slm.runtime import set_precision
from speechlm.slm.sampling import generator_of
from speechlm.slm.shipped import shipped_voices
from speechlm.slm.speak import Speaker

SENTENCES = (
    "The old clock in the hall struck nine, and nobody was awake to hear it.",
    "Please bring seven blue cups and a jug of cold water to the table.",
    "She sells shells by the shore when the weather is fair.",
    "Rain fell on the roof all night long.",
)
Item = tuple[Tensor, Voice, Tensor, Tensor]  # text, prompt, codes [k, T], pointer [T]


@torch.inference_mode()
def forced_logits(model: AutoregressiveModel, item: Item) -> Tensor:
    """Logits `[T, k, V]` of given codes, a step a frame, as generation computes them."""
    text, voice, codes, pointer = item
    decoder = FrameDecoder(model, [text], [voice], codes.shape[1])
    ages = pointer_age(pointer[None], model.config.max_frames_per_symbol)[0]
    previous, rows = decoder.start, []
    for t in range(codes.shape[1]):
        state = decoder.step(previous, pointer[t : t + 1], ages[t : t + 1])
        row = []
        for book in range(len(codes)):
            row.append(decoder.book_logits(book, state)[0, : model.config.codebook_size])
            if book + 1 < len(codes):
                state = state + model.chosen.of_book(book, codes[book, t : t + 1])
        rows.append(torch.stack(row))
        previous = model.codes(codes[None, :, t : t + 1]).sum(1)[:, 0]
    return torch.stack(rows)


def items_of(speaker: Speaker) -> dict[str, list[Item]]:
    """What is forced: the model's own utterances, and real frames after the model's own prompt."""
    model, items = speaker.ar, []
    voices = [speaker.prepare_voice(name) for name in sorted(shipped_voices())]
    texts = [speaker.encode(sentence) for sentence in SENTENCES]
    seeds = [generator_of(i) for i in range(len(texts))]
    chosen = voices[: len(texts)]
    books = model.config.ar_books
    for text, voice, spoken in zip(
        texts, chosen, generate_batch(model, None, texts, chosen, generators=seeds), strict=True
    ):
        items.append((text, voice, spoken.codes, spoken.pointer))
    nobody = [Voice.without_text(v.codes[:, :0], v.identity) for v in voices]
    recorded = [
        (v.symbols, nothing, v.codes[:books], v.pointer)
        for v, nothing in zip(voices, nobody, strict=True)
        if len(v.symbols) > 1
    ]
    return {"own speech": items, **({"recordings": recorded} if recorded else {})}


def compare(model: AutoregressiveModel, items: Sequence[Item]) -> list[dict[str, float | str]]:
    """One row a precision."""
    codes = torch.cat([item[2].T for item in items])
    wanted: Tensor | None = None
    rows: list[dict[str, float | str]] = []
    for precision in ("fp32", "bf16", "int8"):
        set_precision(model, precision)  # type: ignore[arg-type]
        scores = torch.cat([forced_logits(model, item) for item in items]).log_softmax(-1)
        reference = scores if wanted is None else wanted
        wanted = reference
        kl = F.kl_div(scores, reference, log_target=True, reduction="none").sum(-1).mean()
        top1 = (scores.argmax(-1) == reference.argmax(-1)).float().mean()
        loss = -scores.gather(-1, codes[..., None]).mean()
        rows.append(
            {
                "precision": precision,
                "codes": codes.numel(),
                "kl": round(float(kl), 6),
                "top1": round(float(top1), 4),
                "loss": round(float(loss), 4),
            }
        )
    return rows


def main() -> None:
    """Compare and report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    speaker = Speaker.from_pretrained()
    report = {}
    for name, items in items_of(speaker).items():
        report[name] = compare(speaker.ar, items)
        for row in report[name]:
            print(name, row, flush=True)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
