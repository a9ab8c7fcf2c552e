"""The same bytes from every engine, also where a worker is killed half way."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from tiny_codecs import tiny_codec

from speechlm.data_prep.engines import choose_engine
from speechlm.data_prep.jobs import ShardJob
from speechlm.data_prep.manifest import Utterance, read_manifest, write_manifest
from speechlm.data_prep.tokenize import tokenize_manifest
from speechlm.errors import ConfigError, ModelMismatch, SpeechLMError

LAUNCHED = """
import sys
from pathlib import Path
from speechlm.data_prep.tokenize import tokenize_manifest

if __name__ == "__main__":
    manifest, out, folder, workers, rows = sys.argv[1:]
    made = tokenize_manifest(
        Path(manifest), Path(out), codec_folder=Path(folder), workers=int(workers),
        rows_per_shard=int(rows), batch_seconds=2.0, progress=False,
    )
    print(f"rank {made.rank} has {made.shards} shards")
"""


@pytest.fixture(scope="module")
def codec_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codec")
    tiny_codec().save_pretrained(folder)
    return folder


@pytest.fixture
def whole(manifest, tmp_path, codec_folder, content):
    """What this process makes, undisturbed."""
    run(manifest, tmp_path / "whole", codec_folder)
    return content(tmp_path / "whole")


def run(manifest, out, codec_folder, **options):
    options = {"rows_per_shard": 3, "batch_seconds": 2.0, "progress": False} | options
    return tokenize_manifest(manifest, out, codec_folder=codec_folder, **options)


def launch(tmp_path, arguments, *command, **options):
    script = tmp_path / "launched.py"
    script.write_text(LAUNCHED)
    return subprocess.Popen([sys.executable, *command, script, *map(str, arguments)], **options)


def descendants(of):
    """Processes below a process, by the kernel's list."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    found, added = {of}, True
    while added:
        added = {child for child, parent in parents.items() if parent in found} - found
        found |= added
    return found - {of}


def test_processes_make_the_same_bytes_and_go_on_after_one_was_killed(
    manifest, tmp_path, codec_folder, whole, content
):
    killed = []

    def kill_the_first():
        while not killed:
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGKILL)
                killed.append(child.pid)
            time.sleep(0.01)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    try:
        with pytest.raises(SpeechLMError, match=r"2 processes was killed.*run again"):
            run(manifest, tmp_path / "d", codec_folder, workers=2)
    finally:
        killed.append(None)
        killer.join()
    made = run(manifest, tmp_path / "d", codec_folder, workers=2)
    assert (made.shards, made.rows) == (4, 12)
    assert content(tmp_path / "d") == whole


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (OSError(errno.EBADF, "Bad file descriptor"), SpeechLMError),
        (OSError("handle is closed"), SpeechLMError),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), OSError),
    ],
)
def test_a_pool_that_breaks_while_it_starts_workers_says_so(
    manifest, tmp_path, codec_folder, monkeypatch, raised, told
):
    def fail(*_):
        raise raised

    # where CPython's pools start a worker; one that has just died closes the pipes it is given
    monkeypatch.setattr(ProcessPoolExecutor, "_adjust_process_count", fail)
    with pytest.raises(told, match="was killed" if told is SpeechLMError else "unavailable"):
        run(manifest, tmp_path / "d", codec_folder, workers=2)


def test_a_codec_that_changes_under_a_run_is_refused(manifest, tmp_path, codec_folder):
    from speechlm.data_prep.jobs import ShardMaker, ShardRecipe, shard_job
    from speechlm.tokenizer.codec import load_codec

    identity = load_codec().identity  # not what the folder holds
    recipe = ShardRecipe(tmp_path, identity, 4, 2.0, codec_folder)
    job = shard_job(("train", 0), read_manifest(manifest)[:1], recipe)
    with pytest.raises(ModelMismatch, match="This run"):
        ShardMaker(recipe).make(job)


def test_the_surroundings_choose_the_engine(monkeypatch):
    assert (choose_engine(None, 1), choose_engine(None, 2)) == ("local", "processes")
    assert (choose_engine("ray", 3), choose_engine("processes", 1)) == ("ray", "processes")
    for engine, workers, sentence in (
        ("local", 2, "one worker a process"),
        ("slurm", 1, "no engine 'slurm'"),
        ("ray", 0, "0 workers"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            choose_engine(engine, workers)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert choose_engine(None, 1) == "accelerate"
    with pytest.raises(ConfigError, match="every rank would run"):
        choose_engine("processes", 1)


def test_workers_load_their_codec_themselves(manifest, tmp_path, codec):
    for options in ({"workers": 2}, {"engine": "ray"}, {"codec_folder": tmp_path}):
        with pytest.raises(ConfigError, match="give codec_folder"):
            tokenize_manifest(manifest, tmp_path / "d", codec=codec, **options)


def test_a_job_survives_being_written_down():
    path = Path(os.fsdecode(b"/recordings/caf\xe9.wav"))
    one = Utterance("a", path, 1.5, "téxt", "s", "train", "ha", (0.1, 0.2, 0.3, 0.9))
    two = Utterance("b", Path("/b.wav"), 2.0, "", "", "train")
    job = ShardJob("train", 7, (one, two), "0" * 64)
    assert ShardJob.from_json(job.to_json()) == job


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")
def test_workers_end_with_a_parent_that_is_killed(manifest, tmp_path, codec_folder, whole, content):
    arguments = (manifest, tmp_path / "d", codec_folder, 2, 3)
    parent = launch(tmp_path, arguments)
    workers = set()
    deadline = time.monotonic() + 400
    while not (tmp_path / "d" / "receipts").exists() and time.monotonic() < deadline:
        workers |= descendants(parent.pid)
        time.sleep(0.01)
    workers |= descendants(parent.pid)
    parent.kill()
    parent.wait()
    assert len(workers) >= 3  # both workers, and what forks them
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run(manifest, tmp_path / "d", codec_folder)
    assert content(tmp_path / "d") == whole


@pytest.mark.slow
def test_the_ranks_of_a_launcher_share_the_shards(manifest, tmp_path, codec_folder, whole, content):
    command = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    arguments = (manifest, tmp_path / "d", codec_folder, 1, 3)
    ranks = launch(tmp_path, arguments, *command, stdout=subprocess.PIPE, text=True)
    said, _ = ranks.communicate(timeout=300)
    assert ranks.returncode == 0
    assert "rank 0 has 4 shards" in said
    assert "rank 1 has 2 shards" in said
    assert content(tmp_path / "d") == whole


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")
def test_ray_replaces_a_worker_that_is_killed(tmp_path, tone, monkeypatch, content):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray = pytest.importorskip("ray")
    utterances = []
    for index in range(12):
        audio = tmp_path / "wavs" / f"{index:02d}.wav"
        tone(audio, 40.0 + index, 100 + 10 * index)
        utterances.append(Utterance(audio.stem, audio, 40.0 + index, "", "", "train"))
    manifest = tmp_path / "manifest.jsonl"
    write_manifest(manifest, utterances)
    run(manifest, tmp_path / "whole", None, rows_per_shard=1, batch_seconds=60.0)
    out = tmp_path / "d"
    killed = []

    def kill_one_half_way():
        while len(list((out / "receipts").glob("*.json"))) < 3:
            time.sleep(0.005)
        for pid in descendants(os.getpid()):
            if b"MapWorker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
                killed.append((pid, (out / "index.json").exists()))
                return

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        killer = threading.Thread(target=kill_one_half_way, daemon=True)
        killer.start()
        made = run(
            manifest, out, None, engine="ray", workers=2, rows_per_shard=1, batch_seconds=60.0
        )
        killer.join(timeout=10)
    finally:
        ray.shutdown()
    assert [finished for _, finished in killed] == [False]
    assert (made.shards, made.rows) == (12, 12)
    assert content(out) == content(tmp_path / "whole")
