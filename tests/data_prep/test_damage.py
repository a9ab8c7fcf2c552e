"""A corpus in which every kind of damage stands beside good recordings, down to the shards."""

import numpy as np
import pytest
import soundfile

from speechlm.benchmarks.damaged_corpus import DAMAGES, ODD_NAMES, OPTIONS, plant, unfinished
from speechlm.data_prep.prepare import prepare_corpus
from speechlm.data_prep.shards import TokenShards
from speechlm.data_prep.tokenize import tokenize_manifest

RATE = 8000


@pytest.fixture
def sources(tmp_path):
    """Ninety recordings of a second and a half, no two alike, in three containers."""
    found = []
    (tmp_path / "sources").mkdir()
    for index in range(90):
        random = np.random.default_rng(index)
        time = np.arange(round(1.5 * RATE)) / RATE
        pitch = random.uniform(90, 250)
        wave = sum(random.uniform(0, 1) * np.sin(2 * np.pi * pitch * k * time) for k in range(1, 6))
        path = tmp_path / "sources" / f"{index}.{('wav', 'flac', 'ogg')[index % 3]}"
        soundfile.write(path, 0.1 * wave, RATE)
        found.append((path, "fifteen letters or so"))
    return found


def test_no_damage_passes_and_no_good_recording_is_lost(tmp_path, sources, codec):
    planted = plant(tmp_path / "corpus", sources, share=0.3)
    assert set(planted.damaged) == set(DAMAGES)
    assert all(len(names) == 3 for names in planted.damaged.values())
    assert all(any(odd in name for name in planted.good) for odd in ODD_NAMES)

    prepare_corpus(tmp_path / "corpus", tmp_path / "prepared", options=OPTIONS, progress=False)
    assert not unfinished(planted, tmp_path / "prepared")

    tokenize_manifest(
        tmp_path / "prepared" / "manifest.jsonl", tmp_path / "tokens", codec=codec, progress=False
    )
    shards = TokenShards(tmp_path / "tokens")
    assert {shards.row(index).id for index in range(len(shards))} == planted.good
