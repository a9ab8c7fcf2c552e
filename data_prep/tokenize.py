"""A manifest -> token shards: resumable at any moment, and always to the same bytes.

A shard is skipped if its receipt names the same source and its bytes have the receipt's checksum;
anything else is made again. A killed run ends like any other, whatever engine goes on with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from tqdm import tqdm

from ..errors import ConfigError, CorpusError, CorruptShard
from ..tokenizer.codes import CodecIdentity
from .card import finish_dataset
from .engines import (
    Engine,
    Rank,
    choose_engine,
    join_ranks,
    make_here,
    make_in_processes,
    make_on_ray,
)
from .jobs import (
    MadeShard,
    ShardJob,
    ShardMaker,
    ShardRecipe,
    Tell,
    WaveformTokenizer,
    shard_job,
    shard_parts,
)
from .manifest import SPLITS, Utterance, read_manifest, storable, write_json_lines
from .output import counted, make_folder
from .receipts import (
    INDEX_NAME,
    LEDGER_NAME,
    ShardReceipt,
    clear_leftovers,
    finished_shard,
    read_index,
    shard_name,
)

MAX_REJECTED_SHARE = 0.05

Key = tuple[str, int]


@dataclass(frozen=True)
class TokenizeSummary:
    """What `tokenize_manifest` did.

    Attributes:
        folder: The dataset.
        shards: Shards in it; on a rank above 0, those of the rank, as all that follows.
        skipped: How many of them were whole already.
        rows: Utterances in it.
        num_frames: Frames in it.
        seconds: Their duration.
        rejected: Utterances that could not be read, listed in `rejected.jsonl`.
        wall_seconds: Time that the run took.
        loading_seconds: How much of it went into loading the codec, in the slowest of the processes.
        missing: Names of shards that the dataset still lacks, after `only` made one of them.
        rank: Of this process among those of a launcher; 0 speaks for all.
    """

    folder: Path
    shards: int
    skipped: int
    rows: int
    num_frames: int
    seconds: float
    rejected: int
    wall_seconds: float
    loading_seconds: float = 0.0
    missing: tuple[str, ...] = ()
    rank: int = 0

    def table(self) -> str:
        """A few lines for people."""
        lines = [
            f"{counted(self.rows, 'utterance')}, {self.seconds / 3600:.3f} h, "
            f"{counted(self.num_frames, 'frame')} in {counted(self.shards, 'shard')} "
            f"({self.skipped} whole already)",
            f"rejected {self.rejected}" + ("; see rejected.jsonl" if self.rejected else ""),
            f"took {self.wall_seconds - self.loading_seconds:.1f} s, "
            f"and {self.loading_seconds:.1f} s to load the codec",
        ]
        if self.missing:
            are = "is" if len(self.missing) == 1 else "are"
            lines.append(
                f"not a dataset yet, {counted(len(self.missing), 'shard')} {are} missing or damaged: "
                + ", ".join(self.missing[:3])
                + ("…" if len(self.missing) > 3 else "")
            )
        return "\n".join(lines)


def tokenize_manifest(
    manifest: Path,
    out: Path,
    *,
    codec: WaveformTokenizer | None = None,
    codec_folder: Path | None = None,
    device: str | None = None,
    num_books: int | None = None,
    rows_per_shard: int = 1000,
    batch_seconds: float = 120.0,
    workers: int = 1,
    engine: Engine | None = None,
    only: str | None = None,
    progress: bool = True,
) -> TokenizeSummary:
    """Encode every utterance of a manifest into token shards.

    Run again after an interruption, or after the manifest grew, it does only what is missing.

    Args:
        manifest: Written by `prepare_corpus`.
        out: Folder of the dataset.
        codec: Makes the tokens in this process.
        codec_folder: Instead of a codec, where each process loads it; the shipped codec if neither
            is given.
        device: Where a codec that is loaded runs, as torch names it; None for a GPU if there is
            one.
        num_books: Books to keep, from the codec's masked count to all of them (the default).
        rows_per_shard: Utterances a shard.
        batch_seconds: Padded audio that is encoded at once.
        workers: Processes, or actors of Ray, each with a codec of its own.
        engine: `local`, `processes`, `accelerate` (in every process that a launcher started) or
            `ray`; None takes `accelerate` under a launcher, else `processes` for several workers.
        only: Name of a single shard to make, such as `train-00003`.
        progress: Show a bar.

    Raises:
        ConfigError: If an option makes no sense, or `out` is a file.
        CorpusError: If the manifest cannot be read, or more than 5 % of its recordings cannot.
        SpeechLMError: If the codec or a worker broke down.
    """
    begun = perf_counter()
    if rows_per_shard < 1 or not batch_seconds > 0:
        raise ConfigError("rows_per_shard and batch_seconds must be above zero.")
    chosen = choose_engine(engine, workers)
    if codec is not None and (codec_folder is not None or chosen in ("processes", "ray")):
        raise ConfigError(
            "A codec was given where its folder is needed, since every worker loads its own; "
            "give codec_folder, and no codec."
        )
    rank = join_ranks(device) if chosen == "accelerate" else None
    utterances = read_manifest(manifest)  # its faults are told before a codec is loaded
    met = perf_counter()
    identity = codec.identity if codec is not None else _identity(codec_folder)
    loading_seconds = perf_counter() - met if codec is None else 0.0
    books = identity.num_codebooks if num_books is None else num_books
    if not identity.min_codebooks <= books <= identity.num_codebooks:
        raise ConfigError(
            f"{books} books asked for; codec {identity.codec_id} gives "
            f"{identity.min_codebooks} to {identity.num_codebooks}."
        )
    if rank is not None:
        device = rank.device
    recipe = ShardRecipe(
        out=out.absolute(),
        identity=identity,
        num_books=books,
        batch_seconds=batch_seconds,
        codec_folder=None if codec_folder is None else Path(codec_folder).absolute(),
        device=device,
        num_threads=None if rank is None else rank.num_threads,
    )
    run = _Run(recipe, shard_parts(utterances, rows_per_shard), codec)
    make_folder(out)
    if only is not None:
        made, missing = run.make_one(only, progress)
    else:
        made, missing = run.make_all(chosen, workers, rank, progress), ()
    receipts = [shard.receipt for shard in made]
    return TokenizeSummary(
        folder=out,
        shards=len(made),
        skipped=sum(shard.was_whole for shard in made),
        rows=sum(receipt.rows for receipt in receipts),
        num_frames=sum(receipt.num_frames for receipt in receipts),
        seconds=run.seconds(receipts),
        rejected=sum(len(receipt.rejected) for receipt in receipts),
        wall_seconds=perf_counter() - begun,
        loading_seconds=loading_seconds + max((s.loading_seconds for s in made), default=0.0),
        missing=missing,
        rank=0 if rank is None else rank.index,
    )


def _identity(codec_folder: Path | None) -> CodecIdentity:
    from ..tokenizer.codec import load_codec

    return load_codec(codec_folder).identity


class _Run:
    """The shards of a dataset, made by an engine and then joined."""

    def __init__(
        self,
        recipe: ShardRecipe,
        parts: dict[Key, list[Utterance]],
        codec: WaveformTokenizer | None,
    ) -> None:
        self.recipe, self.parts, self.codec = recipe, parts, codec
        self.total = sum(map(len, parts.values()))

    def seconds(self, receipts: Sequence[ShardReceipt]) -> float:
        """Duration of the utterances in some shards, by the manifest."""
        lost = {row["id"] for receipt in receipts for row in receipt.rejected}
        names = {receipt.name for receipt in receipts}
        return sum(
            utterance.seconds
            for key, part in self.parts.items()
            if shard_name(*key) in names
            for utterance in part
            if not lost or storable(utterance.id) not in lost
        )

    def jobs(self, keys: Iterable[Key]) -> Iterator[ShardJob]:
        """The work of some shards."""
        return (shard_job(key, self.parts[key], self.recipe) for key in keys)

    def make_all(
        self, engine: Engine, workers: int, rank: Rank | None, progress: bool
    ) -> list[MadeShard]:
        """Make every shard of the dataset, or of this rank, and let rank 0 finish the dataset."""
        recipe, is_main = self.recipe, rank is None or rank.is_main
        if is_main:
            self._clear()
        if rank is not None:
            rank.wait()  # nothing may be written that is then cleared away
        keys = list(self.parts) if rank is None else list(rank.share(list(self.parts)))
        total = sum(len(self.parts[key]) for key in keys)
        with _bar(total, progress and is_main) as bar:
            tell: Tell = bar.update
            if engine == "processes":
                made = make_in_processes(list(self.jobs(keys)), recipe, workers, tell)
            elif engine == "ray":
                made = make_on_ray(list(self.jobs(keys)), recipe, workers, tell)
            else:
                made = make_here(self.jobs(keys), ShardMaker(recipe, self.codec), tell)
            shards = self._gather(made)
        if rank is not None:
            rank.wait()
            if is_main:
                shards |= self._of_others(set(self.parts) - set(keys))
        ordered = [shards[name] for name in self._names() if name in shards]
        if is_main:
            self._clear()  # what a worker that was killed and replaced has left
            self._finish([shard.receipt for shard in ordered])
        if rank is not None:
            rank.wait()
        return ordered

    def make_one(self, only: str, progress: bool) -> tuple[list[MadeShard], tuple[str, ...]]:
        """Make one shard, and finish the dataset if it was all that was missing.

        Returns:
            The shard, and the names of those that are still missing.
        """
        out = self.recipe.out
        key = self._key(only)
        known = self._indexed(key)
        maker = ShardMaker(replace(self.recipe, keeps_index=True), self.codec)
        with _bar(len(self.parts[key]), progress) as bar:
            (made,) = make_here(self.jobs([key]), maker, bar.update)
        if known == made.receipt.sha256:
            return [made], ()  # the index is right about it, and what of the rest is as before
        (out / INDEX_NAME).unlink(missing_ok=True)
        jobs = {shard_name(job.split, job.number): job for job in self.jobs(self.parts)}
        found = {n: finished_shard(out, j.split, j.number, j.source) for n, j in jobs.items()}
        missing = tuple(name for name, receipt in found.items() if receipt is None)
        if not missing:
            self._finish([receipt for receipt in found.values() if receipt is not None])
        return [made], missing

    def _key(self, name: str) -> Key:
        for key in self.parts:
            if name in (shard_name(*key), shard_name(*key).removesuffix(".parquet")):
                return key
        names = self._names()
        raise ConfigError(
            f"The dataset has no shard {name!r}; its {len(names)} shards are {names[0]} to "
            f"{names[-1]}, by the manifest and rows_per_shard."
        )

    def _indexed(self, key: Key) -> str | None:
        """The checksum that a finished dataset expects of a shard.

        Raises:
            ModelMismatch: If the dataset is of another codec.
            ConfigError: If it has other books.
        """
        out = self.recipe.out
        if not (out / INDEX_NAME).is_file():
            return None
        try:
            index = read_index(out)
        except CorruptShard:
            return None
        self.recipe.identity.require(index.codec, f"The token dataset {out}")
        if index.num_books != self.recipe.num_books:
            raise ConfigError(
                f"The token dataset {out} has {index.num_books} books, {self.recipe.num_books} were "
                "asked for; one shard alone cannot have others."
            )
        return next((s.sha256 for s in index.shards if s.name == shard_name(*key)), None)

    def _names(self) -> list[str]:
        return [shard_name(*key) for key in self.parts]

    def _clear(self) -> None:
        counts = {split: sum(key[0] == split for key in self.parts) for split in SPLITS}
        clear_leftovers(self.recipe.out, counts)

    def _gather(self, made: Iterator[MadeShard]) -> dict[str, MadeShard]:
        shards: dict[str, MadeShard] = {}
        for shard in made:
            shards[shard.receipt.name] = shard
            if shard.receipt.rejected:
                self._check_rejected([one.receipt for one in shards.values()])
        return shards

    def _of_others(self, keys: set[Key]) -> dict[str, MadeShard]:
        """What the other ranks made; read once more, since it came by another machine's disk."""
        shards: dict[str, MadeShard] = {}
        for job in self.jobs(key for key in self.parts if key in keys):
            receipt = finished_shard(self.recipe.out, job.split, job.number, job.source)
            if receipt is None:
                raise CorpusError(
                    f"The shard {shard_name(job.split, job.number)} of another rank is not in "
                    f"{self.recipe.out}; all ranks must see the same folders. Run again to go on."
                )
            shards[receipt.name] = MadeShard(receipt, False)
        return shards

    def _finish(self, receipts: Sequence[ShardReceipt]) -> None:
        self._check_rejected(receipts)
        recipe = self.recipe
        ledger = [row for receipt in receipts for row in receipt.rejected]
        write_json_lines(recipe.out / LEDGER_NAME, ledger)
        finish_dataset(recipe.out, receipts, recipe.identity, recipe.num_books)

    def _check_rejected(self, receipts: Sequence[ShardReceipt]) -> None:
        ledger = [row for receipt in receipts for row in receipt.rejected]
        if len(ledger) > MAX_REJECTED_SHARE * self.total:
            raise CorpusError(
                f"{len(ledger)} of {self.total} recordings can no longer be read, more than "
                f"{MAX_REJECTED_SHARE:.0%} (the first: {ledger[0]['reason']}); "
                "restore them, or run `speechlm prepare` again."
            )


def _bar(total: int, progress: bool) -> tqdm:
    return tqdm(total=total, desc="tokenize", unit="utt", disable=not progress)
