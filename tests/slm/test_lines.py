"""Lists of lines: what is read, what is refused and where, and that one bad line stops no other."""

import pytest
import torch
from tiny_codecs import tiny_codec, voice
from tiny_speaker import SIZES, Letters

from speechlm.errors import CorpusError, UnsupportedAudio, UnsupportedText
from speechlm.slm.autoregressive import AutoregressiveModel
from speechlm.slm.config import AutoregressiveConfig
from speechlm.slm.lines import Line, read_lines
from speechlm.slm.speak import Speaker

RATE = 16_000


@pytest.fixture(scope="module")
def speaker():
    codec = tiny_codec()
    torch.manual_seed(0)
    config = AutoregressiveConfig.for_codec(codec.identity, ar_books=6, **SIZES)
    return Speaker(codec, AutoregressiveModel(config), None, Letters())


def test_a_list_of_lines_is_read(tmp_path):
    path = tmp_path / "list.jsonl"
    (tmp_path / "mine.wav").write_bytes(b"")
    path.write_text(
        '{"text": "One.", "prompt": "mine.wav", "seed": 7}\r\n\n'
        '{"text": "Two.", "prompt": "clara", "prompt_text": null, "out": "a/b.flac"}\n'
        '{"text": "Th\u2028ree.", "voice": "mine.wav"}\n',
        encoding="utf-8",
    )
    one, two, three = read_lines(path)
    assert one == Line("One.", str(tmp_path / "mine.wav"), None, 7, "0001.wav")
    assert two == Line("Two.", "clara", None, 0, "a/b.flac")
    assert three == Line("Th\u2028ree.", str(tmp_path / "mine.wav"), None, 0, "0003.wav")
    assert [line.where for line in (one, two, three)] == [f"{path} line {n}" for n in (1, 3, 4)]


def test_what_a_line_does_not_name_is_the_default(tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_text('{"text": "One."}\n{"text": "Two.", "prompt": "isla", "seed": 0}\n')
    one, two = read_lines(path, default=Line("", "mine.wav", "What it says.", 5))
    assert one == Line("One.", "mine.wav", "What it says.", 5, "0001.wav")
    assert two == Line("Two.", "isla", None, 0, "0002.wav")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("", "no line to speak"),
        ("{", "line 1 is not JSON"),
        ("[" * 100_000, "line 1 is not JSON"),
        ("[1]", 'no "text"'),
        ('{"text": 3}', "text must be a string"),
        ('{"text": null}', "text must be a string"),
        ('{"text": "a", "speed": 2}', "unknown key 'speed'"),
        ('{"text": "a", "seed": -1}', "seed must be"),
        ('{"text": "a", "seed": true}', "seed must be"),
        ('{"text": "a", "out": "../a.wav"}', "below the folder"),
        ('{"text": "a", "out": "/a.wav"}', "below the folder"),
        ('{"text": "a", "out": "a.xyz"}', r"line 1: out is a\.xyz.*use one of"),
        ('{"text": "a", "prompt": "clara", "voice": "isla"}', "both prompt and voice"),
        ('{"text": "a", "out": "b.wav"}\n{"text": "c", "out": "b.wav"}', r"line 2 writes b\.wav"),
    ],
)
def test_a_list_that_cannot_be_spoken_is_refused(line, sentence, tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_text(line)
    with pytest.raises(CorpusError, match=sentence):
        read_lines(path)


def test_several_texts_at_once_are_refused():
    with pytest.raises(UnsupportedText, match="say_many"):
        Line(["Hello.", "And good bye."])


def test_bad_lines_are_told_and_the_others_read(tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_text('{"text": "One."}\n\n{"text": 2}\n{"txt": "Three."}\n{"text": "Four."}\n')
    told = []
    lines = read_lines(path, told.append)
    assert [(line.text, line.out) for line in lines] == [
        ("One.", "0001.wav"),
        ("Four.", "0004.wav"),
    ]
    assert [str(error).split(": ")[0].split(" has")[0] for error in told] == [
        f"{path} line 3",
        f"{path} line 4",
    ]


def test_a_bad_line_is_refused_before_any_is_spoken(speaker):
    prompt = speaker.prepare_voice(voice(RATE))
    with pytest.raises(UnsupportedText):
        speaker.say_many([Line("Hello there.", prompt), Line("...", prompt)])
    with pytest.raises(UnsupportedText, match=r"^a\.jsonl line 7: "):
        speaker.say_many([Line("...", prompt, where="a.jsonl line 7")])


def test_lines_without_fault_are_spoken_as_alone(speaker):
    prompt = speaker.prepare_voice(voice(RATE))
    lines = [
        Line("...", prompt),
        Line("Hello there.", prompt, seed=3),
        Line("Hello.", torch.zeros(RATE)),
        Line("Who is it?", prompt, seed=4),
    ]
    faults = {}
    spoken = list(speaker.say_many(lines, on_error=faults.__setitem__))
    assert {place: type(fault) for place, fault in faults.items()} == {
        0: UnsupportedText,
        2: UnsupportedAudio,
    }
    for line, speech in zip((lines[1], lines[3]), spoken, strict=True):
        alone = speaker.say(line.text, prompt, seed=line.seed)
        assert torch.allclose(speech.waveform, alone.waveform, atol=1e-4)
