"""Times generation: steps of our autoregressive model beside transformers' `generate`, and whole sentences.

    python benchmarks/generate.py --quick --json build/generate-speed.json

- `step`: one frame of `configs/ar-20m.yaml` with random weights: the Transformer, the heads of all its
  books, and drawing a code of each. `model` is the same without the drawing; `loop` is `FrameLoop`.
- `transformers`: one token of `generate` on a Llama of the same blocks, whose vocabulary holds the entries
  of all books, so that a step multiplies about the same weights.
- `bandwidth`: reading 256 MB once, by `sum`. A step cannot be faster than its weights and the keys and
  values of its past are read.

Systems take turns; the best round of each counts. Every row is written as soon as it is there.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from speechlm.slm.autoregressive import AutoregressiveModel
from speechlm.slm.config import AutoregressiveConfig
from speechlm.slm.frame_decoder import FrameDecoder
from speechlm.slm.frame_loop import FrameLoop
from speechlm.slm.length import LengthBounds
from speechlm.slm.prompt import Voice
from speechlm.slm.runtime import runtime_of, set_precision
from speechlm.slm.sampling import DRAWS_PER_CODE, SamplingConfig
from speechlm.slm.speak import Speaker

_RECIPE = Path(__file__).resolve().parents[1] / "configs" / "ar-20m.yaml"
PROMPT_FRAMES = 100
TOP_K = 30
PRECISIONS = ("fp32", "bf16", "int8")
TEXT = "The old clock in the hall struck nine, and nobody in the house was awake to hear it."
Row = dict[str, Any]


class Report:
    """Rows and summary, kept on disk as they come.

    Args:
        file: JSON to write, or None.
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.rows: list[Row] = []
        self.summary: dict[str, float | str | None] = {}

    def add(self, **row: Any) -> None:
        """Keep, print and write one row."""
        self.rows.append(row)
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        self.write()

    def write(self) -> None:
        """Write what there is so far."""
        if self.file is None:
            return
        machine = {
            "processor": platform.processor() or platform.machine(),
            "torch": torch.__version__,
        }
        content = {"rows": self.rows, "summary": self.summary, "machine": machine}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(content, indent=1) + "\n")

    def best(self, value: str, sign: int = 1, **wanted: Any) -> float:
        """The largest value, times `sign`, among the rows that have these fields."""
        return max(
            sign * row[value]
            for row in self.rows
            if value in row and all(row.get(name) == field for name, field in wanted.items())
        )


def bandwidth() -> float:
    """Bytes a second that this thread count reads of memory."""
    memory = torch.ones(64_000_000)
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        memory.sum()
        seconds.append(time.perf_counter() - began)
    return memory.numel() * 4 / min(seconds)


class OurSteps:
    """Frames of our model, at one precision, behind a prompt.

    Args:
        model: Any model with the pointer.
        precision: Of its weights.
        frames: Frames a round.
    """

    def __init__(self, model: AutoregressiveModel, precision: str, frames: int) -> None:
        self.model, self.precision, self.frames = model, precision, frames
        config, generator = model.config, torch.Generator().manual_seed(0)
        shape = (config.num_codebooks, PROMPT_FRAMES)
        codes = torch.randint(config.codebook_size, shape, generator=generator)
        self.voice = Voice.without_text(codes, config.codec_identity)
        self.text = torch.randint(3, config.num_symbols, (40,), generator=generator)
        sampling = SamplingConfig(top_k=TOP_K)
        self.top_k = [(TOP_K, sampling.temperature)] * config.ar_books

    @torch.inference_mode()
    def steps(self, draws: bool) -> float:
        """Frames a second; the prompt's pass is not timed."""
        set_precision(self.model, self.precision)  # type: ignore[arg-type]
        decoder = FrameDecoder(self.model, [self.text], [self.voice], self.frames + 1)
        uniforms = torch.rand(self.frames + 1, 1, DRAWS_PER_CODE * len(self.top_k) + 1)
        previous, pointer = decoder.start, torch.zeros(1, dtype=torch.int64)
        began = time.perf_counter()
        for t in range(self.frames + 1):
            if t == 1:  # the first one makes memory
                began = time.perf_counter()
            previous = self._step(decoder, previous, pointer, uniforms[t], draws)
        return self.frames / (time.perf_counter() - began)

    def _step(
        self,
        decoder: FrameDecoder,
        previous: torch.Tensor,
        pointer: torch.Tensor,
        uniforms: torch.Tensor,
        draws: bool,
    ) -> torch.Tensor:
        state = decoder.step(previous, pointer, pointer)
        chosen = torch.stack([pointer] * len(self.top_k), 1)
        if draws:
            drawn = decoder.codes(state, uniforms, None, self.top_k)
            if drawn is None:
                raise RuntimeError("The codes of a frame are not drawn at once here.")
            chosen = drawn[0]
        else:
            for book in range(len(self.top_k)):
                decoder.book_logits(book, state)
                if book + 1 < len(self.top_k):
                    state = state + self.model.chosen.of_book(book, pointer)
        self.model.advance(state)
        return self.model.codes(chosen[:, :, None]).sum(1)[:, 0]

    @torch.inference_mode()
    def loop(self) -> float:
        """Frames a second of `FrameLoop`, with all its rules; the prompt's pass is not timed."""
        set_precision(self.model, self.precision)  # type: ignore[arg-type]
        bounds = LengthBounds.of(self.model, self.text, self.frames + 1)
        sampling = SamplingConfig(top_k=TOP_K)
        loop = FrameLoop(self.model, [self.text], [self.voice], [bounds], sampling)
        loop.step()
        began = time.perf_counter()
        while not loop.is_over:
            loop.step()
        return (loop.frame - 1) / (time.perf_counter() - began)

    def bytes_per_step(self) -> int:
        """Weights, keys and values that a step in the middle of a round reads."""
        config = self.model.config
        set_precision(self.model, self.precision)  # type: ignore[arg-type]
        runtime = runtime_of(self.model)
        if runtime is None:
            raise RuntimeError("The model has no runtime; the benchmark needs float32 on the CPU.")
        positions = PROMPT_FRAMES + self.frames // 2
        return runtime.num_bytes + 2 * 4 * config.num_layers * config.hidden_size * positions


class TheirSteps:
    """Tokens of transformers' `generate` on a Llama with the blocks of a model of ours."""

    def __init__(self, config: AutoregressiveConfig, dtype: torch.dtype, cache: str) -> None:
        self.options: dict[str, Any] = {"do_sample": True, "top_k": TOP_K}
        if cache == "static":
            self.options |= {"cache_implementation": "static", "disable_compile": True}
        llama = LlamaConfig(
            vocab_size=config.ar_books * config.codebook_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.ffn_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=0,
        )
        self.model = LlamaForCausalLM(llama).eval().to(dtype)
        self.num_parameters = sum(p.numel() for p in self.model.parameters())
        self.prompt = torch.randint(llama.vocab_size, (1, PROMPT_FRAMES))

    def __call__(self, tokens: int) -> float:
        """Tokens a second without the prompt's pass: a long call less a short one."""
        seconds = []
        for count in (2, 2 + tokens):
            began = time.perf_counter()
            self.model.generate(
                self.prompt, min_new_tokens=count, max_new_tokens=count, **self.options
            )
            seconds.append(time.perf_counter() - began)
        return tokens / (seconds[1] - seconds[0])


def compare_steps(report: Report, threads: int, rounds: int, frames: int) -> None:
    """Steps of ours and of transformers, in turns."""
    torch.set_num_threads(threads)
    recipe = yaml.safe_load(_RECIPE.read_text())["model"]
    model = AutoregressiveModel(AutoregressiveConfig(**recipe)).eval()
    num_parameters = sum(p.numel() for p in model.parameters())
    found: dict[tuple[str, str, str], list[float]] = {}
    runs: list[tuple[tuple[str, str, str], Callable[[], float]]] = []
    for precision in PRECISIONS:
        ours = OurSteps(model, precision, frames)
        runs.append((("step", precision, ""), lambda ours=ours: ours.steps(draws=True)))  # type: ignore[misc]
        runs.append((("model", precision, ""), lambda ours=ours: ours.steps(draws=False)))  # type: ignore[misc]
        runs.append((("loop", precision, ""), ours.loop))
    theirs = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        for cache in ("dynamic", "static"):
            peer = TheirSteps(model.config, dtype, cache)
            theirs["transformers", name, cache] = peer
            runs.append((("transformers", name, cache), lambda s=peer: s(frames)))  # type: ignore[misc]
    read = bandwidth()
    for _ in range(rounds):
        for key, run in runs:
            found.setdefault(key, []).append(run())
        read = max(read, bandwidth())
    report.add(system="bandwidth", threads=threads, gigabytes_per_second=round(read / 1e9, 1))
    for key, rates in found.items():
        system, precision, cache = key
        row: Row = {"system": system, "precision": precision, "threads": threads}
        row |= {"steps_per_second": round(max(rates), 1)}
        if system == "transformers":
            row |= {"cache": cache, "parameters": theirs[key].num_parameters}
        else:
            num_bytes = OurSteps(model, precision, frames).bytes_per_step()
            share = max(rates) * num_bytes / read
            row |= {"parameters": num_parameters, "megabytes_per_step": round(num_bytes / 1e6, 1)}
            row |= {"share_of_bandwidth_limit": round(share, 3)}
        report.add(**row)


def time_speech(report: Report, threads: int, rounds: int) -> None:
    """A sentence by `say`, and the first sound of its stream, in a prepared voice."""
    torch.set_num_threads(threads)
    speaker = Speaker.from_pretrained()
    voice = speaker.prepare_voice("clara")
    for precision in PRECISIONS:
        set_precision(speaker.ar, precision)  # type: ignore[arg-type]
        speaker.say("Yes.", voice)
        rates, waits = [], []
        for _ in range(rounds):
            began = time.perf_counter()
            speech = speaker.say(TEXT, voice)
            spent = time.perf_counter() - began
            rates.append(len(speech.waveform) / speech.sampling_rate / spent)
            waits.append(_first_sound(speaker.speak_stream, voice))
        report.add(
            system="say",
            precision=precision,
            threads=threads,
            x_realtime=round(max(rates), 2),
            first_audio_ms=round(1000 * min(waits), 1),
        )


def _first_sound(stream: Callable[..., Iterator[torch.Tensor]], voice: Voice) -> float:
    began = time.perf_counter()
    pieces = stream(TEXT, voice)
    next(pieces)
    spent = time.perf_counter() - began
    del pieces
    return spent


def summarize(report: Report, threads: list[int], precision: str) -> None:
    """Ratios at one precision; the least favourable number of threads counts."""
    rate = "steps_per_second"
    ratios: dict[str, list[float]] = {"step": [], "model": [], "loop": []}
    for count in threads:
        peer = report.best(rate, system="transformers", threads=count)
        for system, values in ratios.items():
            ours = report.best(rate, system=system, precision=precision, threads=count)
            values.append(ours / peer)
    shares = [
        report.best("share_of_bandwidth_limit", system="model", precision=precision, threads=count)
        for count in threads
    ]
    spoken: dict[str, Any] = {"system": "say", "precision": precision}
    report.summary = {
        "precision": precision,
        "step_ratio_to_transformers": round(min(ratios["step"]), 2),
        "model_ratio_to_transformers": round(min(ratios["model"]), 2),
        "loop_ratio_to_transformers": round(min(ratios["loop"]), 2),
        "share_of_bandwidth_limit": min(shares),
        "say_x_realtime": report.best("x_realtime", **spoken),
        "first_audio_ms": -report.best("first_audio_ms", sign=-1, **spoken),
    }
    report.write()
    print(json.dumps(report.summary, indent=1))


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--quick", action="store_true", help="two rounds of 60 steps, not five of 200"
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--precision", choices=PRECISIONS, default="int8", help="of the summary")
    parser.add_argument("--json", type=Path, metavar="FILE", help="rows and summary")
    options = parser.parse_args()
    rounds, frames = (2, 60) if options.quick else (5, 200)
    report = Report(options.json)
    for threads in options.threads:
        compare_steps(report, threads, rounds, frames)
    for threads in options.threads:
        time_speech(report, threads, rounds)
    summarize(report, options.threads, options.precision)


if __name__ == "__main__":
    main()
