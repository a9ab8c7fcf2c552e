"""Who makes the shards: this process, several processes, the ranks of a launcher, or a Ray cluster.

An engine takes jobs and yields finished shards in any order. Scheduling, retries and placement are
those of `concurrent.futures`, of torch's and accelerate's launchers, and of Ray Data; nothing here
decides anything but which job is next in line. All engines make the same bytes, so that a run may
begin with one and end with another.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..errors import ConfigError, MissingExtra, SpeechLMError
from .jobs import MadeShard, ShardJob, ShardMaker, ShardRecipe, Tell
from .output import counted
from .receipts import ShardReceipt
from .worker_pool import end_workers, start_workers

if TYPE_CHECKING:
    from accelerate import PartialState

Engine = Literal["local", "processes", "accelerate", "ray"]
ENGINES: tuple[Engine, ...] = get_args(Engine)

# The fastest rank waits for the slowest, which may have as many hours to go as a shard takes
_PATIENCE = timedelta(days=7)


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_engine(engine: Engine | None, workers: int) -> Engine:
    """The engine asked for, or the one that the surroundings ask for.

    Raises:
        ConfigError: If there is no such engine, or one that cannot have so many workers.
    """
    if engine is not None and engine not in ENGINES:
        raise ConfigError(f"There is no engine {engine!r}; choose one of {', '.join(ENGINES)}.")
    if workers < 1:
        raise ConfigError(f"{workers} workers were asked for; give 1 or more.")
    is_launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    chosen = engine or ("accelerate" if is_launched else "processes" if workers > 1 else "local")
    if is_launched and chosen != "accelerate":
        raise ConfigError(
            f"Under a launcher, every rank would run the engine {chosen!r} of its own; "
            "use the engine accelerate, or start without torchrun or accelerate launch."
        )
    if workers > 1 and chosen in ("local", "accelerate"):
        raise ConfigError(
            f"The engine {chosen!r} has one worker a process, not {workers}; "
            "use the engine processes or ray, or leave workers out."
        )
    return chosen


def make_here(jobs: Iterable[ShardJob], maker: ShardMaker, tell: Tell) -> Iterator[MadeShard]:
    """Make the shards one by one in this process."""
    for job in jobs:
        yield maker.make(job, tell)


def make_in_processes(
    jobs: Sequence[ShardJob], recipe: ShardRecipe, workers: int, tell: Tell
) -> Iterator[MadeShard]:
    """Make the shards in `workers` processes, each with a codec and its share of the cores.

    Raises:
        SpeechLMError: If a process was killed.
    """
    workers = min(workers, max(1, len(jobs)))
    share = max(1, usable_cores() // workers)
    recipe = replace(recipe, num_threads=recipe.num_threads or share)
    strangers = set(multiprocessing.active_children())
    preload = ["speechlm.tokenizer.codec", __name__]  # torch is imported once, its pages shared
    pool = start_workers(workers, _begin_worker, (recipe,), preload)
    try:
        sizes = {pool.submit(_make_in_worker, job): len(job.utterances) for job in jobs}
        for future in as_completed(sizes):
            made = future.result()
            tell(sizes[future])
            yield made
    except BrokenProcessPool as error:
        # A worker that was being started when the pool broke is not ended by it, and waited for
        end_workers(strangers)
        raise SpeechLMError(
            f"One of {counted(workers, 'process', 'processes')} was killed, perhaps for want of "
            "memory; finished shards are kept: run again, with fewer workers or a smaller "
            "batch_seconds, to go on."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_maker: ShardMaker | None = None  # of a worker process


def _begin_worker(recipe: ShardRecipe) -> None:
    global _maker
    from ..tokenizer.memory import keep_freed_memory

    keep_freed_memory()
    _maker = ShardMaker(recipe)


def _make_in_worker(job: ShardJob) -> MadeShard:
    assert _maker is not None  # noqa: S101 - the pool's initializer has run
    return _maker.make(job)


@dataclass(frozen=True)
class Rank:
    """This process among those of a launcher: `torchrun` or `accelerate launch`.

    Attributes:
        index: From 0.
        count: All of them.
        device: As torch names it.
        num_threads: Its share of this machine's cores.
        state: accelerate's, for barriers.
    """

    index: int
    count: int
    device: str
    num_threads: int
    state: PartialState

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that finishes the dataset."""
        return self.index == 0

    def share(self, keys: Sequence[tuple[str, int]]) -> Sequence[tuple[str, int]]:
        """The shards that are this rank's to check or make: each is one rank's, for good.

        Every `count`-th of all, not of the unfinished ones: ranks that look at different moments
        would disagree on which are.
        """
        return keys[self.index :: self.count]

    def wait(self) -> None:
        """Wait for all ranks."""
        self.state.wait_for_everyone()


def join_ranks(codec_device: str | None) -> Rank:
    """Meet the other ranks.

    Args:
        codec_device: Where the codec must run; None for the device of the rank.
    """
    import torch
    from accelerate import PartialState

    on_processor = codec_device == "cpu" or not torch.cuda.is_available()
    state = PartialState(cpu=on_processor, timeout=_PATIENCE)
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return Rank(
        index=state.process_index,
        count=state.num_processes,
        device=codec_device or str(state.device),
        num_threads=max(1, usable_cores() // beside),
        state=state,
    )


def make_on_ray(
    jobs: Sequence[ShardJob], recipe: ShardRecipe, workers: int, tell: Tell
) -> Iterator[MadeShard]:
    """Make the shards by Ray Data: a pool of actors, each with a codec; a lost one is replaced.

    Joins the cluster that `RAY_ADDRESS` names or that runs on this machine, else starts one for
    this run. Every node needs speechlm, the recordings and the dataset's folder under the same
    paths. A GPU is used for each actor where the cluster has any.

    Args:
        jobs: One block of data each, and so the unit of retrying.
        recipe: What all jobs share.
        workers: Actors.
        tell: Called with the utterances of each finished shard.

    Raises:
        MissingExtra: If Ray is not installed.
        SpeechLMError: If an actor says what is wrong, or Ray gives up.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read at import; nothing is sent home
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtra(
            f"The engine ray needs Ray ({error}); install the extra: pip install 'speechlm[ray]'."
        ) from error
    with _cluster(ray):
        gpus = 0 if recipe.device == "cpu" else int(ray.cluster_resources().get("GPU", 0))
        recipe = replace(recipe, num_threads=1)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False  # there is one bar already
        rows = [{"job": job.to_json()} for job in jobs]
        worker: Any = _RayWorker  # Ray makes it callable in its actors
        made = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            worker,
            fn_constructor_args=[recipe],
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(rows))),
            num_cpus=1,
            num_gpus=1 if gpus else 0,
        )
        try:
            for row in made.iter_rows():
                if row["error"]:
                    raise SpeechLMError(row["error"])
                receipt = json.loads(row["receipt"])
                receipt["rejected"] = tuple(receipt["rejected"])
                tell(row["utterances"])
                yield MadeShard(ShardReceipt(**receipt), row["was_whole"], row["loading_seconds"])
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise SpeechLMError(
                f"Ray gave up ({reason}); finished shards are kept: run again to go on."
            ) from error


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """Ray as it is already set up here, or set up for the length of the block."""
    if ray.is_initialized():
        yield
        return
    ray.init(log_to_driver=False, logging_level="warning")
    try:
        yield
    finally:
        ray.shutdown()


class _RayWorker:
    """An actor: one codec, one shard at a time."""

    def __init__(self, recipe: ShardRecipe) -> None:
        from ..tokenizer.memory import keep_freed_memory

        keep_freed_memory()
        self._maker = ShardMaker(recipe)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        job = ShardJob.from_json(row["job"])
        found = {"receipt": "", "was_whole": False, "loading_seconds": 0.0, "error": ""}
        found["utterances"] = len(job.utterances)
        try:
            receipt, found["was_whole"], found["loading_seconds"] = self._maker.make(job)
        except SpeechLMError as error:  # the user's to mend, so no reason to try again
            return found | {"error": str(error)}
        return found | {"receipt": json.dumps(asdict(receipt))}
