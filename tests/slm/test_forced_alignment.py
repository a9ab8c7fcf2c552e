"""Forced alignment finds the durations that the model itself would speak."""

import dataclasses

import pytest
import torch
from tiny_language import IDENTITY, ar_model, speak, text

from speechlm.errors import UnsupportedText
from speechlm.slm.forced_alignment import align
from speechlm.slm.prompt import Voice


def recording(number):
    symbols = text(6 + number, number)
    codes, pointer = speak(symbols, number)
    return symbols, Voice.without_text(codes, IDENTITY), pointer


def test_known_sentences_are_aligned_frame_by_frame(fluent):
    for number in range(4):
        symbols, voice, pointer = recording(number)
        assert torch.equal(align(fluent[0], symbols, voice), pointer)


@pytest.mark.parametrize("beam", [1, 3, 12])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_any_path_keeps_the_rules(beam, seed):
    # An untrained model prefers nothing: only the rules shape the path, up to their limits.
    symbols = text(4 + 3 * seed, seed)
    longest = 6
    for frames in (len(symbols), len(symbols) + 5, longest * len(symbols)):
        codes = torch.randint(0, 12, (3, frames), generator=torch.Generator().manual_seed(seed))
        voice = Voice.without_text(codes, IDENTITY)
        pointer = align(ar_model(), symbols, voice, beam=beam)
        assert pointer.shape == (frames,)
        assert pointer[0] == 0 and pointer[-1] == len(symbols) - 1
        assert set(pointer.diff().tolist()) <= {0, 1}
        assert torch.bincount(pointer).max() <= longest


def test_a_transcript_that_cannot_fit_is_refused():
    symbols, voice, _ = recording(0)
    short = dataclasses.replace(voice, codes=voice.codes[:, :5], pointer=voice.pointer[:5])
    for text_of_prompt, prompt in ((symbols, short), (text(1, 0), voice)):
        with pytest.raises(UnsupportedText, match="cannot belong together"):
            align(ar_model(), text_of_prompt, prompt)
