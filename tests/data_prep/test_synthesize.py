"""A synthetic corpus: who says what, a run that is killed, and what `prepare` makes of it."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechlm.data_prep.manifest import read_manifest
from speechlm.data_prep.prepare import prepare_corpus
from speechlm.data_prep.synthesis import corpus as corpus_module
from speechlm.data_prep.synthesis.corpus import synthesize_corpus
from speechlm.data_prep.synthesis.kokoro import SAMPLING_RATE, Spoken
from speechlm.data_prep.synthesis.narrator import Narrator
from speechlm.data_prep.synthesis.plan import SynthesisPlan, read_sentences
from speechlm.data_prep.synthesis.voices import VoicePacks, mix_speakers
from speechlm.errors import ConfigError, CorpusError, UnsupportedText

UNIT = SAMPLING_RATE // 40  # 25 ms
SILENT_UNITS = 8


class Letters:
    """A front end that spells."""

    note = None

    def __init__(self, language: str) -> None:
        self.language = language

    def phonemize(self, text: str) -> str:
        if "unspeakable" in text:
            raise UnsupportedText("no")
        return "".join(c for c in text.lower() if c.isalpha() or c == " ")


class Buzzer:
    """Three units of a buzz a symbol, between silences; its pitch is the style's first number."""

    symbols = frozenset("abcdefghijklmnopqrstuvwyz ")  # no x

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []

    def speak(self, phonemes, style, speed):
        self.asked.append((phonemes, speed))
        durations = [SILENT_UNITS, *(3 for _ in phonemes), SILENT_UNITS]
        time = np.arange(sum(durations) * UNIT) / SAMPLING_RATE
        wave = np.sin(2 * np.pi * (150 + 100 * style[0]) * time) * np.linspace(0.2, 0.9, len(time))
        wave[: SILENT_UNITS * UNIT] = 0
        wave[-SILENT_UNITS * UNIT :] = 0
        if "hush" in phonemes:
            wave[:] = 0
        return Spoken(wave.astype(np.float32), durations)


def packs(names=("af_one", "am_two", "bf_three", "jf_four")) -> VoicePacks:
    rng = np.random.default_rng(0)
    return VoicePacks({n: rng.uniform(0, 1, (40, 256)).astype(np.float32) for n in names})


class Source:
    """Opens buzzers, and can end the run as a kill would, in the middle of an utterance."""

    def __init__(self, die_after: int | None = None, model: str = "buzzer") -> None:
        self.model, self.die_after, self.buzzers = model, die_after, list[Buzzer]()

    def open(self) -> Narrator:
        self.buzzers.append(Buzzer())
        narrator = Narrator(self.buzzers[-1], packs(), Letters)
        if self.die_after is not None:
            speak, left = narrator.narrate, [self.die_after]

            def narrate(asked):
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
                return speak(asked)

            narrator.narrate = narrate  # type: ignore[method-assign]
        return narrator

    def fingerprint(self) -> dict[str, str]:
        return {"model": self.model}


def sentences(count: int) -> list[str]:
    words = "red green blue grey pink gold plum teal rust sand".split()
    return [
        f"the {words[i % 10]} and the {words[i // 10 % 10]} door {'o' * i}" for i in range(count)
    ]


def plan(count: int = 40, speakers: int = 7, seed: int = 5, **how) -> SynthesisPlan:
    return SynthesisPlan(sentences(count), mix_speakers(packs(), speakers, 2), seed, **how)


def make(out: Path, *, hours: float, source=None, **options):
    options.setdefault("progress", False)
    chosen = options.pop("plan", None) or plan()
    return synthesize_corpus(chosen, source or Source(), out, hours=hours, **options)


def rows(out: Path, seed: int = 5) -> list[dict]:
    lines = (out / f"metadata-{seed}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def samples(out: Path) -> dict[str, int]:
    """A checksum of every recording's samples; files differ by a random serial number of Ogg."""
    return {
        path.name: zlib.crc32(soundfile.read(path, dtype="int16")[0].tobytes())
        for path in sorted(out.rglob("*.opus"))
    }


def test_what_is_written_is_what_prepare_reads(tmp_path):
    summary = make(tmp_path / "speech", hours=0.01)
    prepared = prepare_corpus(
        tmp_path / "speech", tmp_path / "clean", require_phonemes=True, progress=False
    )
    found = {u.id: u for u in read_manifest(prepared.manifest)}
    assert len(found) == summary.utterances == len(rows(tmp_path / "speech"))
    for row in rows(tmp_path / "speech"):
        utterance = found[row["id"]]
        assert (utterance.text, utterance.phonemes) == (row["text"], row["phonemes"])
        assert utterance.speaker == row["speaker"]
        assert utterance.seconds == pytest.approx(row["seconds"], abs=0.02)
        assert sum(utterance.durations_s) == pytest.approx(utterance.seconds, abs=1e-6)
    assert json.loads((tmp_path / "speech/summary-5.json").read_text())["is_complete"]


def test_trimming_keeps_speech_and_says_how_much_went(tmp_path):
    make(tmp_path, hours=0.005)
    for row in rows(tmp_path):
        wave, rate = soundfile.read(tmp_path / row["audio"])
        assert rate == SAMPLING_RATE
        assert len(wave) / rate == pytest.approx(row["seconds"], abs=0.001)
        # the buzz begins after the silent units, of which 50 ms are kept
        assert row["offset_s"] == pytest.approx(SILENT_UNITS * 0.025 - 0.05, abs=0.002)
        speech_s = 3 * 0.025 * len(row["phonemes"])
        assert row["seconds"] == pytest.approx(0.05 + speech_s + 0.1, abs=0.005)
        assert row["durations"] == [SILENT_UNITS, *[3] * len(row["phonemes"]), SILENT_UNITS]


@pytest.mark.parametrize("die_after", [0, 1, 4])
def test_a_killed_run_goes_on_to_the_same_corpus(tmp_path, die_after):
    make(tmp_path / "whole", hours=0.007)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "killed", hours=0.007, source=Source(die_after))
    assert not (tmp_path / "killed" / "summary-5.json").exists()
    written = rows(tmp_path / "killed")
    with (tmp_path / "killed" / "metadata-5.jsonl").open("a") as file:
        file.write('{"id": "v2s001_5_00')  # the kill came while a line was being written
    second = Source()
    make(tmp_path / "killed", hours=0.007, source=second)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    assert samples(tmp_path / "killed") == samples(tmp_path / "whole")
    assert len(second.buzzers[0].asked) == len(rows(tmp_path / "whole")) - len(written)


def test_a_line_stands_only_where_its_audio_is_whole(tmp_path, monkeypatch):
    write = corpus_module.write_atomically

    def full_disk(path, data):
        if str(path).endswith(".opus") and len(list(tmp_path.rglob("*.opus"))) == 3:
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(corpus_module, "write_atomically", full_disk)
    with pytest.raises(OSError, match="No space"):
        make(tmp_path, hours=0.012)
    assert [(tmp_path / row["audio"]).is_file() for row in rows(tmp_path)] == [True] * 3


def test_more_hours_keep_what_is_there(tmp_path):
    make(tmp_path, hours=0.004)
    first, sounds = rows(tmp_path), samples(tmp_path)
    source = Source()
    summary = make(tmp_path, hours=0.012, source=source)
    assert rows(tmp_path)[: len(first)] == first
    assert samples(tmp_path).items() >= sounds.items()
    assert summary.hours >= 0.012 > sum(row["seconds"] for row in first) / 3600
    # nothing to do: no model is loaded
    again = Source()
    assert make(tmp_path, hours=0.012, source=again) == summary
    assert not again.buzzers


def test_an_utterance_depends_on_its_seed_and_index_alone():
    whole = plan()
    assert [whole[3], whole[31]] == [plan()[3], plan()[31]]
    assert {whole[i].text for i in range(len(whole))} == set(sentences(40))
    other = plan(seed=6)
    assert [other[i].text for i in range(40)] != [whole[i].text for i in range(40)]
    assert len({whole[i].speed for i in range(40)}) > 20


def test_speakers_are_stable_for_a_voice_seed():
    few, many = (mix_speakers(packs(), count, 3) for count in (8, 60))
    assert many[:8] == few
    assert [s.pack for s in few[:3]] == ["af_one", "am_two", "bf_three"]
    assert all(s.share == 0 for s in few[:3]) and all(0.2 <= s.share <= 0.6 for s in many[3:])
    assert all(s.pack[0] in "ab" for s in many)
    assert {s.language for s in many} == {"en-us", "en-gb"}
    assert mix_speakers(packs(), 60, 4)[3:] != many[3:]


def test_the_voices_of_corpora_made_before_keep_their_names():
    # as in the metadata of the first corpora, whose speakers these names already mean
    names = "af_heart am_adam bf_emma bm_lewis ef_dora".split()
    found = {s.name: (s.pack, s.other, s.share) for s in mix_speakers(packs(names), 6, 0)}
    assert found["v0s004"] == ("af_heart", "ef_dora", 0.54)
    assert found["v0s000"] == ("af_heart", "ef_dora", 0.0)


def test_no_voice_has_two_names():
    names = "af_heart am_adam bf_emma bm_lewis ef_dora".split()
    speakers = mix_speakers(packs(names), 30, 0)
    # the fifth mix would be of am_adam with itself, which v0s001 is already
    assert "v0s005" not in {s.name for s in speakers}
    voices = {(s.pack, s.other, s.share) if s.share else s.pack for s in speakers}
    assert len(voices) == len(speakers) == 30
    assert all(s.pack != s.other for s in speakers if s.share)
    with pytest.raises(ConfigError, match="1 voice packs do not give 2 voices"):
        mix_speakers(packs(["af_heart"]), 2, 0)


def test_a_style_is_the_mix_of_two_rows_for_the_length():
    voices = packs()
    speaker = mix_speakers(voices, 20, 0)[7]
    rng = np.random.default_rng(0)
    known = {n: rng.uniform(0, 1, (40, 256)) for n in ("af_one", "am_two", "bf_three", "jf_four")}
    for length, row in ((12, 11), (39, 38), (500, 39)):
        mixed = (1 - speaker.share) * known[speaker.pack] + speaker.share * known[speaker.other]
        assert np.allclose(voices.style(speaker, length), mixed[row], atol=1e-6)


@pytest.mark.parametrize("count", [7, 21, 40])
def test_balanced_plans_give_every_speaker_as_many(count):
    whole = plan(count=40, is_balanced=True)
    said = Counter(whole[i].speaker.name for i in range(count))
    assert len(said) == 7
    assert max(said.values()) - min(said.values()) <= 1
    order = [whole[i].speaker.name for i in range(14)]
    assert order[:7] != order[7:]  # another order in every round


def test_excluded_sentences_are_not_said_in_any_spelling(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(
        "The cat sat down on the warm mat.\n\nToo short.\n"
        "\u201cThe dog ran out into the cold rain!\u201d\nThe dog ran out, into the cold rain.\n"
        "It's the third of all the sentences.\n" + "long " * 40 + "\n",
        encoding="utf-8",
    )
    assert len(read_sentences(text)) == 3
    held_out = tmp_path / "manifest.jsonl"
    held_out.write_text(json.dumps({"id": "a", "text": "the CAT sat down on the warm mat"}) + "\n")
    more = tmp_path / "more.txt"
    more.write_text("Its the third of all the sentences")
    left = read_sentences(text, [held_out, more])
    assert left == ["\u201cThe dog ran out into the cold rain!\u201d"]
    with pytest.raises(CorpusError, match=r"leaves nothing to say: .* 1 are excluded"):
        read_sentences(more, [text])


def test_what_cannot_be_spoken_is_skipped_and_counted(tmp_path):
    said = [*sentences(6), "an unspeakable sentence of words", "hush, say nothing at all now"]
    mute = SynthesisPlan(said, mix_speakers(packs(), 3, 0), 5)
    summary = make(tmp_path, hours=1, plan=mute)
    assert (summary.utterances, summary.skipped, summary.is_complete) == (6, 2, False)
    assert "give more text" in summary.report()
    assert {row["text"] for row in rows(tmp_path)} == set(sentences(6))
    assert make(tmp_path, hours=1, plan=mute) == summary


def test_symbols_that_the_model_does_not_know_are_left_out(tmp_path):
    odd = SynthesisPlan(["a fox and an ox in boxes"], mix_speakers(packs(), 1, 0), 5)
    make(tmp_path, hours=1, plan=odd)
    (row,) = rows(tmp_path)
    assert row["phonemes"] == "a fo and an o in boes"
    assert len(row["durations"]) == len(row["phonemes"]) + 2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"plan": plan(count=39)}, "sentences, plan"),
        ({"plan": plan(speakers=8)}, "speakers, plan"),
        ({"plan": plan(is_balanced=True)}, "is_balanced, plan"),
        ({"source": Source(model="other")}, "model"),
    ],
)
def test_another_corpus_in_the_folder_is_refused(tmp_path, change, named):
    make(tmp_path, hours=0.004)
    before = rows(tmp_path)
    with pytest.raises(ConfigError, match=f"made with other {named};"):
        make(tmp_path, hours=0.008, **change)
    assert rows(tmp_path) == before


def test_seeds_share_a_folder(tmp_path):
    make(tmp_path, hours=0.004)
    make(tmp_path, hours=0.004, plan=plan(seed=6))
    names = [row["id"] for seed in (5, 6) for row in rows(tmp_path, seed)]
    assert len(set(names)) == len(names)
    assert len(prepare_corpus(tmp_path, tmp_path / "clean", progress=False).table()) > 0


def test_damaged_metadata_is_named_and_kept(tmp_path):
    make(tmp_path, hours=0.006)
    path = tmp_path / "metadata-5.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join([lines[0], lines[1][:20] + b"\n", *lines[2:]])
    path.write_bytes(damaged)
    with pytest.raises(CorpusError, match=r"line 2 of .*metadata-5.jsonl is damaged"):
        make(tmp_path, hours=0.006)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("wrong", [{"hours": 0}, {"hours": float("nan")}, {"workers": 0}])
def test_senseless_requests_are_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match=r"; |give"):
        make(tmp_path, **{"hours": 1, **wrong})
    assert not list(tmp_path.iterdir())


def test_voice_packs_that_are_absent_or_cut_are_told(tmp_path):
    with pytest.raises(CorpusError, match=r"no English voice packs .*npm pack kokoro-js@1\.2\.1"):
        VoicePacks.load(tmp_path / "absent")
    np.zeros((3, 256), "<f4").tofile(tmp_path / "af_x.bin")
    assert VoicePacks.load(tmp_path).english == ["af_x"]
    (tmp_path / "bm_y.bin").write_bytes(b"\0" * 1000)
    with pytest.raises(CorpusError, match=r"bm_y.bin is no voice pack"):
        VoicePacks.load(tmp_path)
