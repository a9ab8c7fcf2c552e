import pytest


def write_folder(folder, **lists):
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in lists.items():
        path = folder / name.replace("wav_scp", "wav.scp")
        path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))


def test_data_folders_with_audio_beside_them(tmp_path, touch, read):
    """The layout of speechocean762."""
    touch(tmp_path, "WAVE/SPEAKER0001/000010011.WAV", "WAVE/SPEAKER0003/000030012.WAV")
    for split, speaker, utterance in (
        ("train", "0001", "000010011"),
        ("test", "0003", "000030012"),
    ):
        write_folder(
            tmp_path / split,
            wav_scp=[f"{utterance}\tWAVE/SPEAKER{speaker}/{utterance}.WAV"],
            text=[f"{utterance}\tWE CALL IT BEAR"],
            utt2spk=[f"{utterance}\t{speaker}"],
            spk2utt=[f"{speaker}\t{utterance}"],
        )
    recordings, rejections = read(tmp_path)
    assert [(r.id, r.text, r.speaker, r.split) for r in recordings] == [
        ("000030012", "WE CALL IT BEAR", "0003", "test"),
        ("000010011", "WE CALL IT BEAR", "0001", "train"),
    ]
    assert all(r.audio.is_file() for r in recordings)
    assert rejections == []
    assert read(tmp_path / "test")[0] == recordings[:1]


def test_what_cannot_be_used_is_told(tmp_path, touch, read):
    touch(tmp_path, "a b.wav", "u.wav", "bad.wav")
    write_folder(
        tmp_path,
        wav_scp=[
            "ok a b.wav",
            "command sph2pipe -f wav x.sph |",
            "archive raw.ark:123",
            "up ../x.wav",
            "gone gone.wav",
            "bad bad.wav",
            "unknown u.wav",
        ],
        text=["unknown last", "ok hi  there", "nowhere lost", "bad caf\udce9", "command x"],
        utt2spk=["ok s1", "unknown unknown"],
    )
    recordings, rejections = read(tmp_path)
    assert [(r.id, r.audio.name, r.text, r.speaker) for r in recordings] == [
        ("ok", "a b.wav", "hi there", "s1"),
        ("unknown", "u.wav", "last", ""),  # a speaker named as the utterance is an unknown one
    ]
    assert {r.id: r.kind for r in rejections} == {
        "command": "command",
        "archive": "command",
        "up": "entry",
        "gone": "missing",
        "bad": "transcript",
        "nowhere": "missing",
    }
    assert "run it yourself" in rejections[0].reason


def test_segments_are_parts_of_recordings(tmp_path, touch, read):
    touch(tmp_path, "r1.wav", "r2.wav")
    write_folder(
        tmp_path / "train_si",
        wav_scp=[f"r1 {tmp_path}/r1.wav", f"r2 {tmp_path}/r2.wav"],
        segments=["u1 r1 0.5 1.25", "u2 r1 1.25 -1", "u3 r1 2 1", "u4 r9 0 1", "u5 r1 zero 1"],
        text=["u1 one", "u2 two", "u3 three", "u4 four", "u5 five"],
        utt2spk=["u1 s", "u2 s"],
    )
    recordings, rejections = read(tmp_path / "train_si")
    assert [(r.id, r.start_s, r.end_s, r.text, r.split) for r in recordings] == [
        ("u1", 0.5, 1.25, "one", "train"),
        ("u2", 1.25, None, "two", "train"),
    ]
    assert [(r.id, r.kind) for r in rejections] == [
        ("u3", "entry"),
        ("u4", "entry"),
        ("u5", "entry"),
        ("r2", "unlisted"),
    ]


@pytest.mark.parametrize("reverse", [False, True])
def test_lists_in_any_order_give_the_same(tmp_path, touch, read, reverse):
    names = [f"u{n:02d}" for n in range(30)]
    touch(tmp_path, *(f"{name}.wav" for name in names))
    write_folder(
        tmp_path,
        wav_scp=[f"{name} {name}.wav" for name in names],
        text=sorted((f"{name} text of {name}" for name in names), reverse=reverse),
    )
    assert [r.text for r in read(tmp_path)[0]] == [f"text of {name}" for name in names]


def test_the_folder_of_relative_paths_may_be_given(tmp_path, touch, read):
    touch(tmp_path, "audio/x.wav")
    write_folder(tmp_path / "data" / "train", wav_scp=["x x.wav"])
    (recording,), _ = read(tmp_path / "data" / "train", audio_root=str(tmp_path / "audio"))
    assert recording.audio == tmp_path / "audio" / "x.wav"
