"""Damage planted in a corpus, one kind beside the other, and whether `prepare` finds all of it.

    python benchmarks/damaged_corpus.py path/to/speech OUT --count 2000 --tokenize

takes recordings with transcripts from JSON-lines lists, links them into a folder, damages a share of
them, prepares (and tokenizes) the folder, and counts: what crashed, which damage is not in the
ledger, which good recording is not in the manifest or not in the shards.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np
import soundfile

from speechlm.data_prep.cleaning.options import CleaningOptions
from speechlm.data_prep.manifest import read_manifest
from speechlm.data_prep.output import counted
from speechlm.data_prep.prepare import prepare_corpus
from speechlm.data_prep.readers import Recording, read_corpus

THREE_HOURS_S = 3 * 3600
ODD_NAMES = (
    "it's two words",
    'a "quoted" name',
    " leading and  double",
    "naïve-Ünï",
    "a;b&c$(d)`e`",
)
OPTIONS = CleaningOptions(characters_per_second=(3.0, 28.0), apparent_speed=(0.5, 1.62))


@dataclass
class Planted:
    """Ids of a damaged corpus.

    Attributes:
        good: What must come out, odd names among them.
        damaged: What must be in the ledger, by kind of damage.
    """

    good: set[str] = field(default_factory=set)
    damaged: dict[str, set[str]] = field(default_factory=dict)


def _bytes(samples: object, rate: int, suffix: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=suffix, subtype=subtype)
    return buffer.getvalue()


def _truncated(path: Path, source: Path, chance: random.Random) -> Path:
    data = source.read_bytes()
    path = path.with_suffix(source.suffix)
    path.write_bytes(data[: int(chance.uniform(0.2, 0.9) * len(data))])
    return path


def _wrong_format(path: Path, source: Path, chance: random.Random) -> Path:
    heads = (b"<!DOCTYPE html><p>404", b"PK\x03\x04", b"\x7fELF", b"GIF89a", b"ID3\x04\0\0")
    path.write_bytes(chance.choice(heads) + chance.randbytes(5000))
    return path


def _not_finite(path: Path, source: Path, chance: random.Random) -> Path:
    samples, rate = soundfile.read(source, dtype="float32")
    samples[chance.randrange(len(samples))] = chance.choice([np.nan, np.inf, -np.inf])
    path.write_bytes(_bytes(samples, rate, subtype="FLOAT"))
    return path


def _silent(path: Path, source: Path, chance: random.Random) -> Path:
    samples, rate = soundfile.read(source, dtype="float32")
    path.write_bytes(_bytes(chance.choice([0.0, 1e-4]) * samples, rate))
    return path


def _three_hours(path: Path, source: Path, chance: random.Random) -> Path:
    """A WAV file of three hours, nearly all of it a hole."""
    samples, rate = soundfile.read(source, dtype="float32")
    data = bytearray(_bytes(samples, rate, subtype="PCM_16"))
    size = 2 * rate * THREE_HOURS_S
    data[4:8], data[40:44] = (n.to_bytes(4, "little") for n in (size + 36, size))
    with path.open("wb") as file:
        file.write(data)
        file.truncate(44 + size)
    return path


def _mislabelled(path: Path, source: Path, chance: random.Random) -> Path:
    samples, rate = soundfile.read(source, dtype="float32")
    path.write_bytes(_bytes(samples, rate * 3))
    return path


def _not_utf8(path: Path, source: Path, chance: random.Random) -> Path:
    path = path.with_suffix(source.suffix)
    shutil.copyfile(source, path)
    path.with_suffix(".txt").write_bytes("déjà vu à la carte".encode("latin-1"))
    return path


def _loop(path: Path, source: Path, chance: random.Random) -> Path:
    path.symlink_to(path)
    return path


def _empty(path: Path, source: Path, chance: random.Random) -> Path:
    path.touch()
    return path


DAMAGES: dict[str, Callable[[Path, Path, random.Random], Path]] = {
    "empty": _empty,
    "truncated": _truncated,
    "wrong format": _wrong_format,
    "not finite": _not_finite,
    "silent": _silent,
    "three hours": _three_hours,
    "mislabelled rate": _mislabelled,
    "transcript not UTF-8": _not_utf8,
    "symlink loop": _loop,
}


def plant(
    folder: Path, sources: Sequence[tuple[Path, str]], share: float, seed: int = 0
) -> Planted:
    """Make a folder of recordings with side-car transcripts, a share of them damaged.

    Args:
        folder: The corpus, ten recordings a speaker.
        sources: Recordings and their transcripts; not changed.
        share: Of the recordings that are damaged, one kind after the other.
        seed: Chooses which, and how.
    """
    chance = random.Random(seed)
    chosen = sorted(chance.sample(range(len(sources)), round(share * len(sources))))
    kinds = {place: list(DAMAGES)[turn % len(DAMAGES)] for turn, place in enumerate(chosen)}
    planted = Planted()
    for place, (source, text) in enumerate(sources):
        speaker = folder / f"speaker {place // 10:04d}"
        speaker.mkdir(parents=True, exist_ok=True)
        stem = f"{place:06d}"
        if place not in kinds and place % 7 == 0:
            stem = f"{ODD_NAMES[place // 7 % len(ODD_NAMES)]} {stem}"
        path = speaker / f"{stem}.wav"
        name = f"{speaker.name}/{stem}"
        path.with_suffix(".txt").write_text(text, encoding="utf-8")
        if place in kinds:
            DAMAGES[kinds[place]](path, source, chance)
            planted.damaged.setdefault(kinds[place], set()).add(name)
        else:
            path.with_suffix(source.suffix).symlink_to(source.absolute())
            planted.good.add(name)
    (folder / "speaker 0000" / "round and round").symlink_to(folder.absolute())
    return planted


def unfinished(planted: Planted, prepared: Path) -> list[str]:
    """Sentences about every damage that is not in the ledger and every good recording that is lost."""
    lines = (prepared / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    ledger = {row["id"]: row for row in map(json.loads, lines)}
    accepted = {utterance.id for utterance in read_manifest(prepared / "manifest.jsonl")}
    found = [
        f"{kind}: {name} is not in the ledger"
        for kind, names in planted.damaged.items()
        for name in sorted(names - set(ledger))
    ]
    found += [
        f"good: {name} was refused ({ledger.get(name, {}).get('reason', 'not listed')})"
        for name in sorted(planted.good - accepted)
    ]
    damaged = set().union(*planted.damaged.values())
    return found + [f"damaged: {name} is in the manifest" for name in sorted(accepted & damaged)]


def main() -> None:
    """Run it on recordings of one's own."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("speech", type=Path, nargs="+", help="JSON-lines lists, or folders of them")
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=2000, help="recordings")
    parser.add_argument("--share", type=float, default=0.05, help="of them damaged")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokenize", action="store_true", help="with the shipped codec")
    given = parser.parse_args()
    sources = [
        (entry.audio, entry.text)
        for corpus in given.speech
        for entry in read_corpus(corpus)
        if isinstance(entry, Recording) and entry.text
    ]
    sources = random.Random(given.seed).sample(sources, min(given.count, len(sources)))
    planted = plant(given.out / "corpus", sources, given.share, given.seed)
    begun = perf_counter()
    summary = prepare_corpus(
        given.out / "corpus", given.out / "prepared", options=OPTIONS, workers=given.workers
    )
    took = perf_counter() - begun
    print(summary.report())
    print(f"\n{len(planted.good)} good recordings, {sum(summary.seconds.values()):.0f} s of audio")
    print(f"prepared in {took:.1f} s by {counted(given.workers, 'process', 'processes')}")
    print("planted: " + ", ".join(f"{len(v)} {k}" for k, v in sorted(planted.damaged.items())))
    problems = unfinished(planted, given.out / "prepared")
    if given.tokenize:
        from speechlm.data_prep.shards import TokenShards
        from speechlm.data_prep.tokenize import tokenize_manifest

        tokens = given.out / "tokens"
        print(tokenize_manifest(given.out / "prepared" / "manifest.jsonl", tokens).table())
        shards = TokenShards(tokens)
        kept = {shards.row(index).id for index in range(len(shards))}
        accepted = {u.id for u in read_manifest(given.out / "prepared" / "manifest.jsonl")}
        problems += [f"shards: {name} is missing" for name in sorted(accepted - kept)]
        print(f"{len(kept)} rows in the shards")
    print(counted(len(problems), "problem"), *problems, sep="\n")


if __name__ == "__main__":
    main()
