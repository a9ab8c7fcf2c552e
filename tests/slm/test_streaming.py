"""Many lines, and speech while it is generated: the pieces are the whole, and no seam is heard."""

import pytest
import torch
from tiny_codecs import tiny_codec, voice
from tiny_language import K, ar_model, nar_model, text, voice_of
from tiny_speaker import SIZES, Letters

from speechlm.errors import (
    ConfigError,
    MissingExtra,
    ModelMismatch,
    UnsupportedText,
)
from speechlm.slm.autoregressive import AutoregressiveModel
from speechlm.slm.config import AutoregressiveConfig, NonAutoregressiveConfig
from speechlm.slm.generate import generate_codes
from speechlm.slm.lines import Line
from speechlm.slm.nonautoregressive import NonAutoregressiveModel
from speechlm.slm.runtime import set_precision
from speechlm.slm.sampling import SamplingConfig
from speechlm.slm.speak import Speaker
from speechlm.slm.speech import SoftEdges, join_codes
from speechlm.slm.streaming import stream_codes
from speechlm.slm.text import SPECIALS
from speechlm.slm.transcribe import WhisperTranscriber
from speechlm.slm.voice_file import save_voice
from speechlm.tokenizer.codec import load_codec
from speechlm.tokenizer.codes import Codes

RATE = 16_000
TEXT = "The first sentence is here. And here we have the second one!"


def speaker_of(ar_books, **changes):
    codec = tiny_codec()
    torch.manual_seed(0)
    sizes = {**SIZES, "ar_books": ar_books, **changes}
    ar = AutoregressiveModel(AutoregressiveConfig.for_codec(codec.identity, **sizes)).eval()
    nar = None
    if ar_books < codec.identity.num_codebooks:
        nar = NonAutoregressiveModel(
            NonAutoregressiveConfig.for_codec(codec.identity, **sizes)
        ).eval()
    return Speaker(codec, ar, nar, Letters())


@pytest.fixture(scope="module")
def speaker():
    """A speaker whose autoregressive model writes every book."""
    return speaker_of(6)


@pytest.fixture(scope="module")
def prepared(speaker):
    return speaker.prepare_voice(voice(2 * RATE))


@pytest.mark.parametrize(("first", "most"), [(1, 1), (5, 25), (400, 400)])
def test_the_stream_is_the_whole(speaker, prepared, first, most):
    whole = speaker.say(TEXT, prepared, seed=3)
    pieces = list(
        speaker.speak_stream(TEXT, prepared, seed=3, first_frames=first, chunk_frames=most)
    )
    assert torch.equal(torch.cat(pieces), whole.waveform)
    assert all(len(piece) for piece in pieces)
    if first < 400:
        assert len(pieces) > 8


def test_a_voice_with_its_text_streams_too(speaker):
    spoken = speaker.prepare_voice(voice(RATE), prompt_text="abc defghij klm")
    assert len(spoken.symbols) > 1
    whole = speaker.say(TEXT, spoken, seed=3)
    assert torch.equal(torch.cat(list(speaker.speak_stream(TEXT, spoken, seed=3))), whole.waveform)


def test_the_first_piece_comes_after_so_many_frames(speaker, prepared):
    stream = speaker.speak_stream(TEXT, prepared, first_frames=5)
    # what five frames decode to, without what the codec looks ahead and the fade holds back
    ahead = speaker.codec.config.synthesis_reach
    assert 5 * 320 - ahead - 320 <= len(next(stream)) < 5 * 320


@pytest.mark.parametrize("alignment", ["pointer", "prefix"])
def test_windows_of_the_second_model_fill_every_book(alignment):
    speaker = speaker_of(3, alignment=alignment)
    prepared = speaker.prepare_voice(voice(RATE))
    whole = speaker.say("A sentence of some length.", prepared, seed=1)
    pieces = list(speaker.speak_stream("A sentence of some length.", prepared, seed=1))
    assert len(pieces) > 1
    assert sum(map(len, pieces)) == len(whole.waveform)


@pytest.mark.parametrize("alignment", ["pointer", "prefix"])
def test_the_first_books_of_a_window_are_those_of_the_whole(alignment):
    ar, nar = ar_model(alignment=alignment), nar_model(alignment=alignment)
    symbols, prompt = text(12, 1), voice_of(1)
    whole = generate_codes(
        ar, nar, symbols, prompt, generator=torch.Generator().manual_seed(4)
    ).codes
    source = torch.Generator().manual_seed(4)
    pieces = list(
        stream_codes(ar, nar, symbols, prompt, generator=source, first_frames=2, chunk_frames=4)
    )
    assert len(pieces) > 2
    streamed = torch.cat(pieces, dim=1)
    assert torch.equal(streamed[:2], whole[:2])
    assert streamed.shape == whole.shape


def test_windows_cost_a_trained_model_next_to_nothing(fluent, monkeypatch):
    monkeypatch.setattr("speechlm.slm.streaming.FRAMES_BEHIND", 12)
    ar, nar, *_ = fluent
    same = total = 0
    for number in range(4):
        symbols, prompt = text(6 + number, number), voice_of(number)
        whole = generate_codes(ar, nar, symbols, prompt, sampling=SamplingConfig(0.0)).codes
        pieces = stream_codes(
            ar, nar, symbols, prompt, sampling=SamplingConfig(0.0), first_frames=2, chunk_frames=4
        )
        streamed = torch.cat(list(pieces), dim=1)
        same += int((streamed[K - 1] == whole[K - 1]).sum())
        total += whole.shape[1]
    assert same >= 0.9 * total


def test_a_stream_is_refused_at_once(speaker, prepared):
    with pytest.raises(UnsupportedText):
        speaker.speak_stream("", prepared)
    with pytest.raises(ConfigError, match="no option 'topk'"):
        speaker.speak_stream(TEXT, prepared, topk=3)
    with pytest.raises(ConfigError, match="at least 1"):
        speaker.speak_stream(TEXT, prepared, first_frames=0)


def test_edges_are_soft_in_pieces_of_any_size():
    signal = torch.full((1000,), 1.5)
    whole = SoftEdges(RATE)
    wanted = torch.cat((whole.push(signal), whole.flush()))
    assert wanted[0] == wanted[-1] == 0 and wanted[80:-80].eq(1).all() and len(wanted) == 1000
    edges = SoftEdges(RATE)
    pieces = [edges.push(piece) for piece in signal.split(33)]
    assert torch.equal(torch.cat((*pieces, edges.flush())), wanted)


def bands(frames):
    """Mean power of frames `[n, 320]` in ten bands of 800 Hz, in dB."""
    power = torch.fft.rfft(frames * torch.hann_window(320)).abs().square().mean(0)
    return 10 * power[:160].view(10, 16).mean(1).log10()


@pytest.mark.parametrize("noise", [0.003, 0.02])
def test_no_seam_is_heard_between_sentences(noise):
    """Two sentences in a noisy room: in the pause the room goes on, in level and spectrum."""
    codec = load_codec()
    signal = noise * torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    signal[4800:14_400] += voice(9600)
    sentence = codec.tokenize([signal]).item(0)[:, 2:55]  # 13 frames of room before the voice
    count = sentence.shape[1]
    joined = join_codes([sentence, sentence], codec.config.frame_rate_hz)
    assert joined.shape[1] - 2 * count == round(0.15 * codec.config.frame_rate_hz)
    num_samples = torch.tensor([joined.shape[1] * 320])
    spoken = codec.synthesize(Codes(joined[None], num_samples, codec.identity))[0].view(-1, 320)
    room, seam = spoken[2:10], spoken[count - 4 : joined.shape[1] - count + 4]
    level, usual = (10 * part.square().mean(1).log10() for part in (seam, room))
    assert level.min() > usual.min() - 4 and level.max() < usual.max() + 4
    assert (bands(seam) - bands(room)).abs().max() < 6


def test_many_lines_are_what_each_is_alone(speaker, prepared):
    lines = [
        Line(TEXT, prepared, seed=2),
        Line("Hello there.", voice(RATE, 100), seed=5),
        "No prompt at all is no fault.",
        Line("Hello there.", prepared, seed=2),
    ]
    spoken = list(speaker.say_many(lines, batch_size=3))
    assert len(spoken) == 4
    for line, speech in zip(lines, spoken, strict=True):
        line = Line(line) if isinstance(line, str) else line
        single = speaker.say(line.text, line.prompt, seed=line.seed)
        assert torch.allclose(speech.waveform, single.waveform, atol=1e-4)
        assert speech.compute_seconds > 0


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_rounded_weights_keep_these_promises(precision):
    speaker = speaker_of(6)
    try:
        set_precision(speaker.ar, precision)
    except ConfigError:
        pytest.skip("this processor's torch has no int8 products")
    prompt = speaker.prepare_voice(voice(2 * RATE))
    whole = speaker.say(TEXT, prompt, seed=3).waveform
    streamed = torch.cat(list(speaker.speak_stream(TEXT, prompt, seed=3)))
    assert torch.equal(streamed, whole)
    lines = [Line("Hello there.", prompt), Line(TEXT, prompt, seed=3), Line("Yes.", prompt)]
    assert torch.equal(list(speaker.say_many(lines))[1].waveform, whole)


def test_a_voice_from_a_file_says_the_same(speaker, prepared, tmp_path):
    path = tmp_path / "a.safetensors"
    save_voice(prepared, path)
    wanted = speaker.say("Hello there.", prepared, seed=1).waveform
    assert torch.equal(speaker.say("Hello there.", path, seed=1).waveform, wanted)
    assert speaker.prepare_voice(path).loudness_dbfs == prepared.loudness_dbfs
    with pytest.raises(ConfigError, match="prepared already"):
        speaker.say("Hello there.", path, prompt_text="What it says.")


def test_a_voice_with_the_text_of_other_symbols_is_refused(speaker, tmp_path):
    spoken = speaker.prepare_voice(voice(RATE // 2 + 1600), prompt_text="abc defghij")
    path = tmp_path / "a.safetensors"
    save_voice(spoken, path)
    assert speaker.say("Hello there.", path).seconds > 0
    other = speaker_of(6, symbols=[*SPECIALS, *"zyxwvutsrqponmlkjihgfedcba ,.!?"])
    with pytest.raises(ModelMismatch, match="symbols of another model"):
        other.say("Hello there.", path)


class Hears:
    """A recognizer that always hears the same."""

    def __init__(self, words):
        self.words = words

    def transcribe(self, waveform, sampling_rate):
        assert waveform.dim() == 1 and sampling_rate == RATE
        return self.words


def test_a_transcript_may_be_heard(speaker):
    recording = voice(RATE // 2 + 1600)
    heard = speaker.prepare_voice(recording, transcriber=Hears("abc defghij"))
    assert torch.equal(heard.symbols, speaker.encode("abc defghij"))
    said = speaker.say("Hello there.", recording, transcriber=Hears("abc defghij"), seed=1)
    assert torch.equal(said.waveform, speaker.say("Hello there.", heard, seed=1).waveform)
    for nothing in ("", " ... ", "far too much for half a second " * 20):
        plain = speaker.prepare_voice(recording, transcriber=Hears(nothing))
        assert len(plain.symbols) == 1


def test_a_recognizer_without_a_model_is_told(tmp_path):
    with pytest.raises(MissingExtra, match=r"model\.bin|faster-whisper"):
        WhisperTranscriber.load(tmp_path)


def test_a_stream_ends_where_its_cap_is():
    ar = ar_model(alignment="prefix")
    pieces = list(stream_codes(ar, None, text(6, 0), voice_of(0), max_frames=7, first_frames=3))
    assert sum(piece.shape[1] for piece in pieces) <= 7
