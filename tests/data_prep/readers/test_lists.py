import csv
import json

import pytest

from speechlm.data_prep.readers import Recording, parse_options, read_corpus
from speechlm.errors import ConfigError

ROW = {"id": "a", "audio": "w/a.opus", "speaker": "s", "split": "valid", "text": "hi", "age": 6}


def write_lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def test_a_json_list_gives_its_columns(tmp_path, touch, read):
    touch(tmp_path, "w/a.opus")
    write_lines(tmp_path / "list.jsonl", ROW)
    expected = ([Recording("a", tmp_path / "w" / "a.opus", "hi", "s", "valid")], [])
    assert read(tmp_path) == read(tmp_path / "list.jsonl") == expected


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_table_gives_the_same_columns(tmp_path, touch, read, delimiter):
    touch(tmp_path, "w/a.opus")
    path = tmp_path / ("list.tsv" if delimiter == "\t" else "list.csv")
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ROW, delimiter=delimiter)
        writer.writeheader()
        writer.writerow(ROW)
    expected = ([Recording("a", tmp_path / "w" / "a.opus", "hi", "s", "valid")], [])
    assert read(tmp_path) == read(path) == expected


def test_cells_of_a_csv_may_be_quoted_and_one_stray_quote_costs_one_row(tmp_path, touch, read):
    touch(tmp_path, *(f"{name}.wav" for name in "abcd"))
    (tmp_path / "list.csv").write_text(
        'audio,text\r\na.wav,"one, ""two""\r\nthree"\r\nb.wav,"never closed\r\nc.wav,"see"\r\n'
        "d.wav,dee,too many\r\n"
    )
    recordings, rejections = read(tmp_path)
    assert [(r.id, r.text) for r in recordings] == [("a", 'one, "two" three'), ("c", "see")]
    assert [(r.id, r.kind) for r in rejections[:2]] == [
        ("list.csv:4", "entry"),
        ("list.csv:6", "entry"),
    ]
    assert [(r.id, r.kind) for r in rejections[2:]] == [("b", "unlisted"), ("d", "unlisted")]


def test_a_quote_in_a_tsv_is_a_letter(tmp_path, touch, read):
    touch(tmp_path, "a.wav", "b.wav")
    (tmp_path / "list.tsv").write_text('audio\ttext\na.wav\t"open\nb.wav\tb "c" d\n')
    assert [r.text for r in read(tmp_path)[0]] == ['"open', 'b "c" d']


def test_lists_of_other_tools_are_known_by_their_columns(tmp_path, touch, read):
    touch(tmp_path, "x.wav", "y.wav", "z.wav")
    nemo = {"audio_filepath": str(tmp_path / "x.wav"), "offset": 1.5, "duration": 2.0, "text": "n"}
    write_lines(tmp_path / "dev_manifest.json.jsonl", nemo)
    (tmp_path / "metadata.csv").write_text("file_name,transcription,speaker_id\ny.wav,t,7\n")
    (part,), _ = read(tmp_path / "dev_manifest.json.jsonl")
    assert (part.start_s, part.end_s, part.text, part.split) == (1.5, 3.5, "n", "valid")
    ((whole,), _) = read(tmp_path / "metadata.csv")
    assert (whole.id, whole.text, whole.speaker, whole.end_s) == ("y", "t", "7", None)


def test_columns_may_be_chosen_from_python_and_from_text(tmp_path, touch, read):
    touch(tmp_path, "a.opus")
    row = {"id": "a", "audio": "a.opus", "text_asr": "heard"}
    write_lines(tmp_path / "list.jsonl", row)
    assert [r.text for r in read(tmp_path)[0]] == [None]  # an inexact text is not taken unasked
    chosen = parse_options(["columns.text=text_asr"])
    assert chosen == {"columns": {"text": "text_asr"}}
    assert [r.text for r in read(tmp_path, **chosen)[0]] == ["heard"]
    with pytest.raises(ConfigError, match="words"):
        list(read_corpus(tmp_path, columns={"words": "text_asr"}))
    for bad in ("text", "=x", "columns.=x"):
        with pytest.raises(ConfigError):
            parse_options([bad])


def test_integer_durations_are_25_ms_less_the_trimmed_start_and_the_vocoder_lead(
    tmp_path, touch, read
):
    touch(tmp_path, "a.wav")
    row = {"id": "a", "audio": "a.wav", "phonemes": "hi", "durations": [8, 2, 2, 4]}
    write_lines(tmp_path / "list.jsonl", row | {"offset_s": 0.12})
    (recording,), _ = read(tmp_path)
    assert recording.durations_s == pytest.approx((0.02, 0.05, 0.05, 0.1))
    write_lines(tmp_path / "list.jsonl", row | {"offset_s": 0.16})
    (recording,), _ = read(tmp_path)
    assert recording.durations_s == pytest.approx((0.0, 0.03, 0.05, 0.1))


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1]",
        "[" * 100_000,
        "x" * ((1 << 20) + 1),
        '{"id": "a"}',
        '{"id": "a", "audio": "../../etc/passwd"}',
        '{"id": "a", "audio": ""}',
        '{"id": "a", "audio": "a.wav", "text": 7}',
        '{"id": "a", "audio": "a.wav", "text": "\\ud800"}',
        '{"id": "a", "audio": "a.wav", "split": "blue"}',
        '{"id": "a", "audio": "a.wav", "start_s": 2, "end_s": 1}',
        '{"id": "a", "audio": "a.wav", "start_s": NaN}',
        '{"id": "a", "audio": "a.wav", "phonemes": "hi", "durations": [1, 2]}',
        '{"id": "a", "audio": "a.wav", "phonemes": "h", "durations": [1, "x", 2]}',
    ],
)
def test_a_bad_line_is_a_rejection_and_the_rest_is_read(tmp_path, touch, read, line):
    touch(tmp_path, "g.wav")
    (tmp_path / "list.jsonl").write_text(line + '\n{"id": "good", "audio": "g.wav"}\n')
    (good,), (bad,) = read(tmp_path)
    assert "list.jsonl:1" in bad.id + bad.reason
    assert len(bad.reason) < 1000
    assert good.id == "good"


def test_bytes_that_are_not_utf8_spoil_their_own_line_only(tmp_path, touch, read):
    touch(tmp_path, "a.wav", "b.wav")
    (tmp_path / "list.csv").write_bytes(b"audio,text\na.wav,caf\xe9\nb.wav,fine\n")
    (good,), rejections = read(tmp_path / "list.csv")
    assert (good.id, good.text) == ("b", "fine")
    assert [r.kind for r in rejections] == ["transcript"]


def test_recordings_and_lists_that_do_not_match_are_told(tmp_path, touch, read):
    touch(tmp_path, "a.wav", "deep/extra.flac")
    write_lines(tmp_path / "list.jsonl", {"audio": "a.wav"}, {"id": "gone", "audio": "gone.wav"})
    recordings, rejections = read(tmp_path)
    assert [r.id for r in recordings] == ["a"]
    found = {(r.id, r.kind) for r in rejections}
    assert found == {("gone", "missing"), ("deep/extra", "unlisted")}
    assert [r.kind for r in read(tmp_path / "list.jsonl")[1]] == [
        "missing"
    ]  # the user chose a list


def test_a_prepared_folder_is_its_manifest_not_its_ledger(tmp_path, touch, read):
    touch(tmp_path, "a.wav")
    write_lines(tmp_path / "manifest.jsonl", {"id": "a", "audio": "a.wav"})
    write_lines(tmp_path / "rejected.jsonl", {"id": "b", "audio": "b.wav", "reason": "silent"})
    (tmp_path / "summary.json").write_text("{}")
    assert ([r.id for r in read(tmp_path)[0]], read(tmp_path)[1]) == (["a"], [])


def test_a_table_without_an_audio_column_says_which_columns_it_has(tmp_path, read):
    (tmp_path / "speakers.csv").write_text("name,age\nann,30\n")
    _, (rejection,) = read(tmp_path / "speakers.csv")
    assert "name, age" in rejection.reason
    assert read(tmp_path) == ([], [])  # in a folder it is no list of recordings
