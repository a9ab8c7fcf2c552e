"""Files, batches, chunks and live streams: the same codes and samples, whatever the cut."""

import pytest
import torch
from tiny_codecs import tiny_codec, voice

import speechlm.tokenizer.blocks as blocks
import speechlm.tokenizer.fourier as fourier
import speechlm.tokenizer.stream as stream
from speechlm.errors import ConfigError, UnsupportedAudio
from speechlm.tokenizer.codec import CodecModel
from speechlm.tokenizer.stream import CodecStream

HOP = 320

VARIANTS = {
    "causal": {"is_causal": True},
    "causal-plain": {"is_causal": True, "has_harmonic_source": False},
    "full": {"is_causal": False},
    "full-plain": {"is_causal": False, "has_harmonic_source": False},
    "full-attention": {"is_causal": False, "has_harmonic_source": False, "attention_window": 9},
    "causal-attention": {"is_causal": True, "attention_window": 6},
}


@pytest.fixture(params=VARIANTS)
def codec(request: pytest.FixtureRequest, encoder: str) -> CodecModel:
    return tiny_codec(encoder=encoder, **VARIANTS[request.param])


def through(codec: CodecModel, wave: torch.Tensor, sizes: list[int]) -> tuple[torch.Tensor, ...]:
    """Codes and samples of a live stream that is pushed in pieces of these sizes, over and over."""
    live = CodecStream(codec)
    codes, samples, start, turn = [], [], 0, 0
    while start < len(wave):
        size = sizes[turn % len(sizes)]
        codes.append(live.push(wave[start : start + size]))
        samples.append(live.pull(codes[-1]))
        start, turn = start + size, turn + 1
    codes.append(live.flush())
    samples += [live.pull(codes[-1]), live.drain()]
    return torch.cat(codes, -1), torch.cat(samples)


@pytest.mark.parametrize("num_samples", [1, HOP, 7_001])
def test_a_stream_gives_the_codes_and_samples_of_the_whole(
    codec: CodecModel, num_samples: int
) -> None:
    wave = voice(num_samples)
    whole = codec.tokenize([wave])
    codes, samples = through(codec, wave, [1, 159, 640, HOP, 1500])
    assert torch.equal(codes, whole.values[0])
    assert len(samples) == codes.shape[-1] * HOP
    assert (samples[:num_samples] - codec.synthesize(whole)[0]).abs().max() <= 1e-5


def test_long_audio_in_blocks_is_as_in_one_piece(
    codec: CodecModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = voice(60 * HOP + 77)
    in_one = codec.tokenize([wave])
    assert in_one.values.shape[-1] < stream.block_frames(torch.device("cpu"), 1)
    heard = codec.synthesize(in_one)[0]
    monkeypatch.setitem(stream._BLOCK_FRAMES, "cpu", 16)
    monkeypatch.setitem(fourier._SYNTHESIS_ROWS, "cpu", 8)
    in_blocks = codec.tokenize([wave])
    assert torch.equal(in_blocks.values, in_one.values)
    assert (codec.synthesize(in_blocks)[0] - heard).abs().max() <= 1e-5


def test_blocks_are_what_training_sees(codec: CodecModel) -> None:
    """The differentiable pass over a whole signal, and the block path of inference."""
    wave = voice(20 * HOP)[None]
    mask = torch.ones(1, 20, 1, dtype=torch.bool)
    with torch.no_grad():
        latent = codec.encoder(wave, mask)
        codes = codec.encode(wave).audio_codes
        heard = codec.decoder(codec.quantizer.decode(codes), mask).waveform
    live, found = stream.EncoderStream(codec), []
    codec.encoder.block, block = (
        lambda *args: found.append(block(*args)) or found[-1],
        codec.encoder.block,
    )
    live.push(wave, is_last=True)
    assert torch.allclose(found[0][0][:, :20], latent, atol=1e-5)
    assert (heard - codec.decode(codes).audio_values).abs().max() <= 1e-4


def test_a_padded_batch_gives_each_item_as_alone(codec: CodecModel) -> None:
    waves = [voice(n, seed=n) for n in (2500, 7000, 641, 1)]
    together = codec.tokenize(waves)
    decoded = codec.synthesize(together)
    for index, wave in enumerate(waves):
        alone = codec.tokenize([wave])
        assert torch.equal(together.item(index), alone.item(0))
        assert (decoded[index] - codec.synthesize(alone)[0]).abs().max() <= 1e-5


def test_what_follows_an_item_in_a_batch_is_not_heard(encoder: str) -> None:
    codec = tiny_codec(encoder=encoder, is_causal=False)
    wave = voice(3000)
    mask = torch.zeros(1, 6000, dtype=torch.bool)
    mask[:, :3000] = True
    noisy = torch.cat([wave, 100 * torch.ones(3000)])[None]
    frames = -(-3000 // HOP)
    codes = codec.encode(noisy, mask).audio_codes
    assert torch.equal(codes[..., :frames], codec.encode(wave[None]).audio_codes)
    assert not codes[..., frames:].any()


@pytest.mark.parametrize("encoder", ["spectral", "seanet"])
def test_samples_come_out_within_the_stated_latency(encoder: str) -> None:
    codec = tiny_codec(encoder=encoder)
    config = codec.config
    ahead, latency = config.encoder_lookahead_samples, config.latency_seconds
    assert ahead is not None and latency is not None
    assert latency == pytest.approx((HOP + ahead + config.synthesis_reach) / config.sampling_rate)
    live = CodecStream(codec)
    emitted, longest = 0, 0
    for now in range(53, 12 * HOP, 53):
        emitted += len(live.pull(live.push(torch.zeros(53))))
        longest = max(longest, now - emitted)
    # a sample waits for the latency at the most, and the unlucky one nearly does
    assert 0 <= latency * config.sampling_rate - longest < 53


@pytest.mark.parametrize("encoder", ["spectral", "seanet"])
def test_an_impulse_is_heard_within_the_stated_latency(encoder: str) -> None:
    codec = tiny_codec(encoder=encoder)
    ahead, reach = codec.config.encoder_lookahead_samples, codec.config.synthesis_reach
    assert ahead is not None
    silence, impulse = torch.zeros(20 * HOP), torch.zeros(20 * HOP)
    place = 9 * HOP + 7
    impulse[place] = 30.0
    mask = torch.ones(1, 20, 1, dtype=torch.bool)
    with torch.no_grad():
        latents = [codec.encoder(wave[None], mask) for wave in (silence, impulse)]
        first = int((latents[0] != latents[1]).any(-1)[0].nonzero()[0, 0])
        # in its own frame at the latest, and in none that was complete before its look-ahead
        assert place - ahead < (first + 1) * HOP <= place + HOP
        heard = [codec.decoder(latent, mask).waveform[0] for latent in latents]
    changed = int((heard[0] != heard[1]).nonzero()[0])
    assert first * HOP - reach <= changed < (first + 1) * HOP


def test_codes_come_out_as_soon_as_their_look_ahead_is_there() -> None:
    codec = tiny_codec()
    ahead = codec.config.encoder_lookahead_samples
    assert ahead == 104 + HOP
    live = CodecStream(codec)
    assert live.push(voice(HOP + ahead - 1)).shape[-1] == 0
    assert live.push(torch.zeros(1)).shape[-1] == 1
    assert live.push(torch.zeros(HOP)).shape[-1] == 1


def test_half_a_signal_is_settled_by_half_the_stream() -> None:
    """What came out cannot be changed by what comes in later."""
    codec = tiny_codec()
    wave = voice(30 * HOP)
    whole = codec.tokenize([wave]).values[0]
    half = CodecStream(codec).push(wave[: 15 * HOP])
    assert torch.equal(half, whole[:, : half.shape[-1]])
    assert half.shape[-1] == 13  # two frames wait for their look-ahead


def test_an_empty_stream_is_empty() -> None:
    live = CodecStream(tiny_codec())
    assert live.push(torch.zeros(0)).shape == (6, 0)
    codes = live.flush()
    assert codes.shape == (6, 0)
    assert live.pull(codes).shape == live.drain().shape == (0,)


@pytest.mark.parametrize(("masked", "fewest"), [(3, 3), (0, 1)])
def test_streams_take_every_number_of_books(masked: int, fewest: int) -> None:
    codec = tiny_codec(num_masked_books=masked)
    every = codec.tokenize([voice(3000)]).values[0]
    for books in range(fewest, 7):
        live = CodecStream(codec, num_books=books)
        codes = torch.cat([live.push(voice(3000)), live.flush()], -1)
        assert torch.equal(codes, every[:books])
        assert len(live.pull(codes)) + len(live.drain()) == every.shape[-1] * HOP
    with pytest.raises(ConfigError, match=f"{fewest} to 6"):
        CodecStream(codec, num_books=7)


def test_latents_of_codes_sound_as_the_codes_do() -> None:
    codec = tiny_codec()
    codes = codec.tokenize([voice(4000)]).values[0]
    live, mixed = CodecStream(codec), CodecStream(codec)
    expected = torch.cat([live.pull(codes), live.drain()])
    latents = codec.quantizer.decode(codes[None])[0]
    samples = [mixed.pull(codes[:, :3]), mixed.pull_latents(latents[3:8])]
    for bad in (latents[0], latents[:, 1:], latents / 0):
        with pytest.raises(ConfigError, match="latents"):
            mixed.pull_latents(bad)
    samples += [mixed.pull(codes[:, 8:]), mixed.drain()]
    assert (torch.cat(samples) - expected).abs().max() <= 1e-5


def test_bad_pieces_are_refused_and_lose_nothing() -> None:
    codec = tiny_codec()
    wave = voice(4000)
    live = CodecStream(codec)
    codes = [live.push(wave[:1000])]
    for bad in (torch.zeros(2, 100), torch.tensor([0.0, float("nan")])):
        with pytest.raises(UnsupportedAudio, match="stream"):
            live.push(bad)
    codes += [live.push(wave[1000:]), live.flush()]
    codes = torch.cat(codes, -1)
    assert torch.equal(codes, codec.tokenize([wave]).values[0])
    samples = [live.pull(codes[:, :5])]
    for bad in (codes[:2], codes + 16, codes[0]):
        with pytest.raises(ConfigError):
            live.pull(bad)
    samples += [live.pull(codes[:, 5:]), live.drain()]
    assert (
        torch.cat(samples)[:4000] - codec.synthesize(codec.tokenize([wave]))[0]
    ).abs().max() <= 1e-5


@pytest.mark.parametrize("is_fused", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 15, 16, 500])
def test_a_row_does_not_depend_on_how_many_there_are(
    rows: int, is_fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What equal codes in all cuts rest on; it holds on this build, or this test says so."""
    if not is_fused:
        monkeypatch.setattr(blocks, "fused_linear", lambda: None)
    for width_in, width_out in ((256, 768), (768, 256), (36, 1024), (128, 750), (512, 2048)):
        x, weight = torch.randn(600, width_in), torch.randn(width_out, width_in)
        with torch.inference_mode():
            whole = blocks.linear(x, weight, torch.zeros(width_out), "gelu")
            part = blocks.linear(x[50 : 50 + rows], weight, torch.zeros(width_out), "gelu")
        assert torch.equal(part, whole[50 : 50 + rows])
        assert torch.allclose(whole, torch.nn.functional.gelu(x @ weight.T), atol=1e-3)


def test_arrays_will_do_and_other_things_are_refused() -> None:
    codec = tiny_codec()
    wave = voice(3000)
    codes = codec.tokenize([wave])
    assert torch.equal(codec.tokenize([wave.double().numpy()]).values, codes.values)
    live = CodecStream(codec)
    pieces = [live.push(wave.numpy()), live.flush()]
    assert torch.equal(torch.cat(pieces, -1), codes.values[0])
    for bad in (["a.wav"], wave, wave.numpy(), [[0.1, 0.2]]):
        with pytest.raises(UnsupportedAudio, match=r"give \[waveform\]|read_audio"):
            codec.tokenize(bad)


def test_after_its_end_a_stream_starts_another_signal() -> None:
    codec = tiny_codec()
    live = CodecStream(codec)
    found = []
    for _ in range(2):
        codes = torch.cat([live.push(voice(3000)), live.flush()], -1)
        found.append((codes, torch.cat([live.pull(codes), live.drain()])))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_nothing_encodes_to_nothing() -> None:
    codec = tiny_codec()
    codes = codec.encode(torch.zeros(2, 0)).audio_codes
    assert codes.shape == (2, 6, 0)
    assert codec.decode(codes).audio_values.shape == (2, 0)
