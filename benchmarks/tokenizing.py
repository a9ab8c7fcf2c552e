"""Times `tokenize_manifest` beside the codec alone, on the same cores in the same run.

    python benchmarks/tokenizing.py                      # made-up recordings as WAV, FLAC and Opus
    python benchmarks/tokenizing.py --manifest prepared/manifest.jsonl
    python benchmarks/tokenizing.py --memory 10000       # resident memory over so many utterances

The codec alone encodes waveforms that lie in memory, 8 of 10 s at once as in `codec.py`: in one
process with a thread a core, and in a process a core with one thread each. Tokenizing reads,
resamples, encodes and writes shards. The settings take turns and the best turn counts; a turn's
clock starts when every worker has made its first shard, so that starting up is not in it. Not named
`tokenize.py`, which a script's folder would put in front of the standard library's module.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from speechlm.benchmarks.systems import speech_like
from speechlm.data_prep.engines import make_here, make_in_processes, usable_cores
from speechlm.data_prep.jobs import ShardMaker, ShardRecipe, shard_job, shard_parts
from speechlm.data_prep.manifest import Utterance, read_manifest, write_manifest
from speechlm.data_prep.tokenize import tokenize_manifest
from speechlm.tokenizer.audio import write_audio
from speechlm.tokenizer.codec import load_codec
from speechlm.tokenizer.memory import keep_freed_memory

BATCH, ITEM_SECONDS = 8, 10
_DISTINCT = 40  # recordings on disk; more utterances name them again
_MEGABYTE = 1_000_000


@dataclass
class Row:
    """The best turn of a setting.

    Attributes:
        setting: What ran.
        times_real_time: Seconds of audio a second.
        shares: That rate over the codec's alone, by the codec's setting.
    """

    setting: str
    times_real_time: float
    shares: dict[str, float]


def made_up_corpus(folder: Path, suffix: str, rate: int, count: int, seconds: float) -> Path:
    """A manifest of `count` utterances of about `seconds` over a few recordings."""
    folder.mkdir(parents=True)
    distinct = min(_DISTINCT, count)
    lengths = [seconds * (0.5 + index / distinct) for index in range(distinct)]
    paths = [folder / f"{index:03d}{suffix}" for index in range(distinct)]
    for path, length in zip(paths, lengths, strict=True):
        write_audio(path, speech_like(round(length * rate), 1, rate)[0], rate)
    utterances = []
    for index in range(count):
        place = index * 7 % distinct  # lengths mixed within a shard
        name = f"{index:06d}"
        utterances.append(Utterance(name, paths[place], lengths[place], "", "", "train"))
    write_manifest(folder / "manifest.jsonl", utterances)
    return folder / "manifest.jsonl"


def _encode_for(threads: int, seconds: float) -> tuple[float, float]:
    """Audio seconds encoded and the time it took, in this process."""
    import torch

    keep_freed_memory()
    torch.set_num_threads(threads)
    codec = load_codec()
    rate = codec.config.sampling_rate
    waveforms = list(speech_like(ITEM_SECONDS * rate, BATCH, rate))
    codec.tokenize(waveforms)
    start, passes = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        codec.tokenize(waveforms)
        passes += 1
    return passes * BATCH * ITEM_SECONDS, time.perf_counter() - start


def codec_alone(processes: int, threads: int, seconds: float) -> float:
    """Times real time of the codec with its input in memory, over all processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["speechlm.tokenizer.codec"])
    with ProcessPoolExecutor(processes, context) as pool:
        turns = [pool.submit(_encode_for, threads, seconds) for _ in range(processes)]
        return sum(audio / took for audio, took in (turn.result() for turn in turns))


def tokenizing(manifest: Path, workers: int, threads: int, shards: int, rows: int) -> float:
    """Times real time of making shards, once every worker is at work.

    Args:
        manifest: Its first utterances are used.
        workers: Processes; 0 for this one.
        threads: Of torch in each.
        shards: Timed shards of each worker.
        rows: Utterances a shard.
    """
    count = max(1, workers)
    with tempfile.TemporaryDirectory() as folder:
        identity = load_codec().identity
        recipe = ShardRecipe(
            Path(folder), identity, identity.num_codebooks, 120.0, device="cpu", num_threads=threads
        )
        parts = shard_parts(read_manifest(manifest), rows)
        full = [(key, part) for key, part in parts.items() if len(part) == rows]
        needed = count * (1 + shards)
        if len(full) < needed:
            raise SystemExit(
                f"{manifest} fills {len(full)} shards of {rows} rows and {needed} are timed; give a "
                "larger corpus, or fewer --rows or --shards."
            )
        jobs = [shard_job(*one, recipe) for one in full[:needed]]
        if workers:
            made = make_in_processes(jobs, recipe, workers, lambda done: None)
        else:
            made = make_here(jobs, ShardMaker(recipe), lambda done: None)
        finished: list[tuple[float, int]] = []
        for shard in made:
            finished.append((time.perf_counter(), shard.receipt.num_samples))
    # From the last worker's first shard to the first worker's last: in between all are at work
    timed = finished[count - 1 : len(finished) - count + 1]
    audio = sum(samples for _, samples in timed[1:]) / identity.sampling_rate
    return audio / (timed[-1][0] - timed[0][0])


def measure(manifest: Path, options: argparse.Namespace) -> list[Row]:
    """Let the settings take turns on a corpus."""
    cores = options.cores
    alone = {f"codec alone, 1 process x {cores} threads": (1, cores)}
    if cores > 1:
        alone[f"codec alone, {cores} processes x 1 thread"] = (cores, 1)
    runs = {f"tokenize, 1 process x {cores} threads": (0, cores)}
    if cores > 1:
        runs[f"tokenize, {cores} processes x 1 thread"] = (cores, 1)
    best: dict[str, float] = {}
    for _ in range(options.turns):
        for name, (processes, threads) in alone.items():
            rate = codec_alone(processes, threads, options.seconds)
            best[name] = max(rate, best.get(name, 0.0))
        for name, (workers, threads) in runs.items():
            rate = tokenizing(manifest, workers, threads, options.shards, options.rows)
            best[name] = max(rate, best.get(name, 0.0))
    return [
        Row(name, rate, {other: rate / best[other] for other in alone if name in runs})
        for name, rate in best.items()
    ]


def resident_mb(pid: int) -> float:
    """Resident memory of a process, in megabytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024 / _MEGABYTE


def _tokenize_quietly(manifest: Path, out: Path, rows: int) -> None:
    keep_freed_memory()
    tokenize_manifest(manifest, out, rows_per_shard=rows, progress=False, device="cpu")


def memory_over(count: int, folder: Path, rows: int) -> list[tuple[int, float]]:
    """(Utterances done, highest resident megabytes since the last shard), shard by shard."""
    manifest = made_up_corpus(folder / "corpus", ".wav", 16_000, count, 1.0)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_tokenize_quietly, args=(manifest, folder / "out", rows))
    process.start()
    found: list[tuple[int, float]] = []
    peak, receipts = 0.0, folder / "out" / "receipts"
    while process.is_alive():
        try:
            peak = max(peak, resident_mb(process.pid or 0))
        except (OSError, StopIteration):
            break
        done = len(list(receipts.glob("*.json"))) if receipts.is_dir() else 0
        if done * rows > (found[-1][0] if found else 0):
            found.append((done * rows, peak))
            peak = 0.0
        time.sleep(0.02)
    process.join()
    if process.exitcode:
        sys.exit(f"tokenizing ended with {process.exitcode}")
    return found


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--manifest", type=Path, help="a real corpus instead of made-up ones")
    parser.add_argument("--memory", type=int, metavar="N", help="memory over N utterances only")
    parser.add_argument("--cores", type=int, default=usable_cores())
    parser.add_argument("--seconds", type=float, default=10.0, help="of the codec's turn")
    parser.add_argument("--shards", type=int, default=3, help="timed shards of each worker")
    parser.add_argument("--turns", type=int, default=3)
    # Batches of fewer are padded more than those of the thousand that `tokenize` has
    parser.add_argument("--rows", type=int, default=250, help="utterances a shard")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to FILE")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = parse(arguments)
    folder = Path(tempfile.mkdtemp())
    found: dict[str, list[object]] = {}
    try:
        if options.memory:
            for done, peak in memory_over(options.memory, folder, 500):
                print(f"{done:7d} utterances   {peak:7.1f} MB")
            return
        corpora = {str(options.manifest): options.manifest} if options.manifest else {}
        for suffix, rate in (
            () if corpora else ((".wav", 16_000), (".flac", 24_000), (".opus", 16_000))
        ):
            name = f"{suffix} at {rate} Hz"
            corpora[name] = made_up_corpus(folder / f"c{suffix}", suffix, rate, 10_000, 10.0)
        for name, manifest in corpora.items():
            print(f"\n{name}\n")
            rows = measure(manifest, options)
            for row in rows:
                shares = ", ".join(f"{share:.0%} of {of}" for of, share in row.shares.items())
                print(f"{row.setting:45s}{row.times_real_time:8.1f} x real time   {shares}")
            found[name] = [asdict(row) for row in rows]
    finally:
        shutil.rmtree(folder)
    print(f"\n{options.cores} cores, load {os.getloadavg()[0]:.1f}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
