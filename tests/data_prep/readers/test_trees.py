import pytest

from speechlm.data_prep.readers import read_corpus
from speechlm.errors import ConfigError


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


@pytest.fixture
def ljspeech(tmp_path, touch):
    root = tmp_path / "LJSpeech-1.1"
    touch(root, "wavs/LJ001-0001.wav", "wavs/LJ001-0002.wav", "wavs/LJ001-0009.wav", "README")
    lines = [
        'LJ001-0001|He said "1455|He said "fourteen fifty-five',
        "LJ001-0002|in being|",
        "LJ001-0003|no such file|no such file",
        "LJ001-0004",
        "../LJ001-0005|up|up",
    ]
    write(root / "metadata.csv", "\n".join(lines) + "\n")
    with (root / "metadata.csv").open("ab") as file:
        file.write(b"LJ001-0009|caf\xe9|caf\xe9\n")
    return root


def test_ljspeech(ljspeech, read):
    recordings, rejections = read(ljspeech)
    assert [(r.id, r.text, r.speaker) for r in recordings] == [
        ("LJ001-0001", 'He said "fourteen fifty-five', "LJSpeech-1.1"),
        ("LJ001-0002", "in being", "LJSpeech-1.1"),
    ]
    assert [(r.id, r.kind) for r in rejections] == [
        ("LJ001-0003", "missing"),
        ("metadata.csv:4", "entry"),
        ("../LJ001-0005", "entry"),
        ("LJ001-0009", "transcript"),
        ("wavs/LJ001-0009", "unlisted"),
    ]
    recordings, _ = read(ljspeech, text="original", speaker="linda")
    assert [(r.text, r.speaker) for r in recordings[:1]] == [('He said "1455', "linda")]
    with pytest.raises(ConfigError, match="text"):
        read_corpus(ljspeech, text="both")


@pytest.fixture
def librispeech(tmp_path, touch):
    root = tmp_path / "LibriSpeech"
    for split, place in (("dev-clean", "84/121123"), ("train-clean-100", "103/1240")):
        stem = place.replace("/", "-")
        touch(root, *(f"{split}/{place}/{stem}-000{n}.flac" for n in range(2)))
        write(
            root / split / place / f"{stem}.trans.txt",
            f"{stem}-0000 GO DO YOU HEAR\n{stem}-0001 BUT IN LESS\n",
        )
    write(root / "SPEAKERS.TXT", "; ID |SEX| SUBSET |MINUTES| NAME\n")
    return root


def test_librispeech(librispeech, touch, read):
    recordings, rejections = read(librispeech)
    assert [(r.id, r.text, r.speaker, r.split) for r in recordings] == [
        ("84-121123-0000", "GO DO YOU HEAR", "84", "valid"),
        ("84-121123-0001", "BUT IN LESS", "84", "valid"),
        ("103-1240-0000", "GO DO YOU HEAR", "103", "train"),
        ("103-1240-0001", "BUT IN LESS", "103", "train"),
    ]
    assert rejections == []
    assert read(librispeech / "dev-clean")[0] == recordings[:2]


def test_librispeech_tells_what_does_not_match(librispeech, touch, read):
    chapter = librispeech / "dev-clean" / "84" / "121123"
    (chapter / "84-121123-0001.flac").unlink()
    touch(chapter, "84-121123-0007.flac")
    touch(librispeech, "elsewhere/x.wav")
    _, rejections = read(librispeech)
    assert {(r.id.rsplit("/")[-1], r.kind) for r in rejections} == {
        ("84-121123-0001", "missing"),
        ("84-121123-0007", "unlisted"),
        ("x", "unlisted"),
    }


@pytest.mark.parametrize("name", ["LibriTTS", "LibriTTS_R"])
def test_libritts(tmp_path, touch, read, name):
    root = tmp_path / name
    chapter = root / "test-clean" / "1089" / "134686"
    stem = "1089_134686_000001_00000"
    touch(chapter, *(f"{stem}{n}.wav" for n in range(3)))
    write(chapter / f"{stem}0.normalized.txt", "Doctor Who.\n")
    write(chapter / f"{stem}0.original.txt", "Dr. Who.\n")
    (chapter / f"{stem}1.normalized.txt").write_bytes(b"caf\xe9")
    write(chapter / f"{stem}8.normalized.txt", "Nobody says this.")
    write(chapter / "1089_134686.trans.tsv", f"{stem}0\tDr. Who.\tDoctor Who.\n")
    write(chapter / "1089_134686.book.tsv", f"{stem}0\tDr. Who.\t1\n")
    recordings, rejections = read(root)
    assert [(r.id, r.text, r.speaker, r.split) for r in recordings] == [
        (f"{stem}0", "Doctor Who.", "1089", "test"),
        (f"{stem}2", None, "1089", "test"),
    ]
    assert [(r.id, r.kind) for r in rejections] == [
        (f"{stem}1", "transcript"),
        (f"{stem}8", "missing"),
    ]
    assert read(root, text="original")[0][0].text == "Dr. Who."


def test_vctk_of_2019(tmp_path, touch, read):
    top = "wav48_silence_trimmed"
    touch(tmp_path, f"{top}/p225/p225_001_mic1.flac", f"{top}/p225/p225_001_mic2.flac")
    touch(tmp_path, f"{top}/p225/p225_002_mic2.flac", f"{top}/s5/s5_001_mic1.flac")
    touch(tmp_path, f"{top}/p315/p315_001_mic1.flac", "speaker-info.txt", f"{top}/log.txt")
    write(tmp_path / "txt" / "p225" / "p225_001.txt", "Please call Stella.\n")
    write(tmp_path / "txt" / "p225" / "p225_002.txt", "Ask her.\n")
    write(tmp_path / "txt" / "p225" / "p225_003.txt", "Lost.\n")
    write(tmp_path / "txt" / "s5" / "s5_001.txt", "Please.\n")
    recordings, rejections = read(tmp_path)
    assert [(r.id, r.audio.name, r.text, r.speaker) for r in recordings] == [
        ("p225_001", "p225_001_mic1.flac", "Please call Stella.", "p225"),
        ("p225_002", "p225_002_mic2.flac", "Ask her.", "p225"),
        ("p315_001", "p315_001_mic1.flac", None, "p315"),  # this speaker has no transcripts
        ("s5_001", "s5_001_mic1.flac", "Please.", "s5"),
    ]
    assert [(r.id, r.kind) for r in rejections] == [("p225_003", "missing")]
    other, _ = read(tmp_path, microphone="mic2")
    assert [r.audio.name for r in other[:1]] == ["p225_001_mic2.flac"]


def test_vctk_of_2017(tmp_path, touch, read):
    touch(tmp_path, "wav48/p225/p225_001.wav")
    write(tmp_path / "txt" / "p225" / "p225_001.txt", "Please call Stella.\n")
    ((recording,), rejections) = read(tmp_path)
    assert (recording.id, recording.text, recording.speaker, rejections) == (
        "p225_001",
        "Please call Stella.",
        "p225",
        [],
    )
