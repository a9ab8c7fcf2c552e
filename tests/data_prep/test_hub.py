"""Against a stand-in on this machine that answers as the Hub does; the real one is not asked."""

import json
import os
import subprocess
import sys

import pytest
from hub_server import local_hub
from token_datasets import CODEC, make_row, same, write_dataset

from speechlm.data_prep.hub import pull_from_hub, push_to_hub
from speechlm.data_prep.shards import TokenShards
from speechlm.errors import ConfigError, CorpusError, CorruptShard


@pytest.fixture
def hub():
    with local_hub() as server:
        yield server


@pytest.fixture
def dataset(tmp_path):
    train = [make_row(i, 5 + i) for i in range(6)]
    valid = [make_row(10 + i, 9, split="valid") for i in range(2)]
    write_dataset(tmp_path / "d", [train[:3], train[3:], valid])
    (tmp_path / "d" / "rejected.jsonl").write_text('{"audio": "/home/someone/private.wav"}')
    return tmp_path / "d", train + valid


def push(folder, hub, repo="me/speech", **options):
    return push_to_hub(folder, repo, token="t", endpoint=hub.address, **options)


def pull(folder, hub, repo="me/speech"):
    return pull_from_hub(repo, folder, token="t", endpoint=hub.address)


def test_what_was_pushed_is_pulled_and_opened(dataset, hub, tmp_path):
    folder, rows = dataset
    address = push(folder, hub)
    assert address.startswith(f"{hub.address}/datasets/me/speech/commit/")
    assert hub.private["me/speech"]
    shards = TokenShards(pull(tmp_path / "pulled", hub), codec=CODEC)
    assert len(shards) == len(rows)
    assert all(same(shards.row(i), row) for i, row in enumerate(rows))
    assert shards.fingerprint == TokenShards(folder).fingerprint


def test_files_that_name_the_makers_machine_stay_at_home(dataset, hub):
    push(dataset[0], hub)
    assert sorted(hub.repos["me/speech"]) == [
        "README.md",
        "index.json",
        "train-00000.parquet",
        "train-00001.parquet",
        "valid-00000.parquet",
    ]


def test_load_dataset_opens_it_by_name(dataset, hub, tmp_path):
    """In a process of its own: the address of the Hub is read when its client is imported."""
    folder, rows = dataset
    push(folder, hub)
    program = (
        "import json, datasets\n"
        "found = datasets.load_dataset('me/speech')\n"
        "print(json.dumps({name: part['codes'] for name, part in found.items()}, default=list))\n"
    )
    environment = os.environ | {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["train"] == [row.codes.tolist() for row in rows[:6]]
    assert found["validation"] == [row.codes.tolist() for row in rows[6:]]


def test_a_second_push_leaves_no_shard_of_the_first_behind(dataset, hub, tmp_path):
    push(dataset[0], hub)
    fewer = [make_row(50, 7)]
    write_dataset(tmp_path / "e", [fewer])
    push(tmp_path / "e", hub)
    assert sorted(hub.repos["me/speech"]) == ["README.md", "index.json", "train-00000.parquet"]
    assert same(TokenShards(pull(tmp_path / "pulled", hub)).row(0), fewer[0])


def test_a_damaged_dataset_is_not_pushed(dataset, hub):
    folder, _ = dataset
    (folder / "train-00001.parquet").write_bytes(b"")
    with pytest.raises(CorruptShard, match=r"not pushed: .*train-00001\.parquet is cut"):
        push(folder, hub)
    (folder / "test-00000.parquet").write_bytes(b"of another dataset")
    with pytest.raises(CorruptShard, match=r"and 1 more"):
        push(folder, hub)
    assert not hub.seen


def test_errors_of_the_hub_are_sentences(dataset, hub, tmp_path):
    with pytest.raises(ConfigError, match="no name of a repository"):
        push(dataset[0], hub, repo="a/b/c")
    with pytest.raises(CorpusError, match="me/nowhere on the Hub"):
        pull(tmp_path / "pulled", hub, "me/nowhere")
    hub.repos["me/other"] = {"README.md": b"no tokens"}
    with pytest.raises(CorpusError, match="no finished token dataset"):
        pull(tmp_path / "other", hub, "me/other")
    with pytest.raises(CorpusError, match="Could not push"):
        push_to_hub(dataset[0], "me/speech", token="t", endpoint="http://127.0.0.1:9")
