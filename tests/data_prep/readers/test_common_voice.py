import pytest

from speechlm.errors import ConfigError

HEADER = (
    "client_id path sentence_id sentence sentence_domain up_votes down_votes age gender accents "
    "variant locale segment"
).split()


def write_list(path, *clips):
    """Rows as in release 17, where a quote is a letter like any other."""
    lines = ["\t".join(HEADER)]
    for client, number, sentence in clips:
        row = dict.fromkeys(HEADER, "") | {
            "client_id": client,
            "path": f"common_voice_en_{number}.mp3",
            "sentence": sentence,
        }
        lines.append("\t".join(row.values()))
    path.write_text("\n".join(lines) + "\n", "utf-8")


@pytest.fixture
def english(tmp_path, touch):
    root = tmp_path / "cv-corpus-17.0-2024-03-15" / "en"
    touch(root, *(f"clips/common_voice_en_{n}.mp3" for n in (1, 2, 3, 4, 5, 9)))
    train, dev, free = (
        ("a" * 128, 1, '"Hello,'),
        ("b" * 128, 2, "He said 'no'."),
        ("c" * 128, 3, "In no split."),
    )
    write_list(root / "train.tsv", train)
    write_list(root / "dev.tsv", dev)
    write_list(root / "test.tsv")
    write_list(root / "validated.tsv", train, dev, free, ("c" * 128, 8, "No such clip."))
    write_list(root / "invalidated.tsv", ("d" * 128, 4, "Wrong."))
    write_list(root / "other.tsv", ("e" * 128, 5, "Not voted on."))
    return root


def test_each_clip_comes_once_with_its_split(english, read):
    recordings, rejections = read(english)
    assert [(r.id, r.text, r.speaker[0], r.split) for r in recordings] == [
        ("common_voice_en_1", '"Hello,', "a", "train"),
        ("common_voice_en_2", "He said 'no'.", "b", "valid"),
        ("common_voice_en_3", "In no split.", "c", None),
    ]
    assert [(r.id, r.kind) for r in rejections] == [
        ("common_voice_en_8", "missing"),
        ("clips/common_voice_en_9", "unlisted"),
    ]


def test_a_whole_release_is_a_collection_of_languages(english, read):
    recordings, _ = read(english.parent)
    assert recordings[0].id == "en/common_voice_en_1"


def test_lists_may_be_chosen_and_given_alone(english, read):
    for chosen in ("other", ("other",)):
        assert [r.id for r in read(english, lists=chosen)[0]] == ["common_voice_en_5"]
    assert [r.split for r in read(english / "dev.tsv")[0]] == ["valid"]
    with pytest.raises(ConfigError, match="lists"):
        read(english, lists="best")


def test_rows_that_make_no_sense_are_rejections(english, read):
    with (english / "train.tsv").open("ab") as file:
        file.write(b"too\tfew\n")
        file.write(b"\t".join([b"f", b"../x.mp3", b"", b"up", *[b""] * 9]) + b"\n")
        file.write(
            b"\t".join([b"f", b"common_voice_en_9.mp3", b"", b"caf\xe9", *[b""] * 9]) + b"\n"
        )
    _, rejections = read(english)
    assert [r.kind for r in rejections[:3]] == ["entry", "entry", "transcript"]
    assert rejections[0].id == "train.tsv:3"
