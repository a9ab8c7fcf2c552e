"""The pointer's arithmetic, and texts that do not see each other."""

import torch

from speechlm.slm.alignment import (
    TextEncoder,
    advances_after,
    pointer_age,
    prompt_symbols_of,
    text_at,
)

POINTER = torch.tensor([[0, 0, 1, 2, 2, 2], [0, 1, 1, 1, 2, 2]])


def test_age_counts_from_the_arrival():
    assert pointer_age(POINTER, 10).tolist() == [[0, 1, 0, 0, 1, 2], [0, 0, 1, 2, 0, 1]]
    assert pointer_age(POINTER, 1).max() == 1


def test_last_frame_leaves_the_last_symbol():
    moves = advances_after(POINTER, torch.tensor([6, 5]))
    assert moves[0].tolist() == [False, True, True, False, False, True]
    assert moves[1, :5].tolist() == [True, False, False, True, True]


def test_prompt_symbols_end_where_the_target_begins():
    found = prompt_symbols_of(POINTER, torch.tensor([3, 6]), torch.tensor([3, 3]))
    assert found.tolist() == [2, 3]
    assert prompt_symbols_of(POINTER, torch.tensor([0, 0]), torch.tensor([3, 3])).tolist() == [0, 0]


@torch.no_grad()
def test_prompt_and_target_texts_do_not_see_each_other():
    torch.manual_seed(0)
    encoder = TextEncoder(20, 16, 3, 5, 0.0).eval()
    symbols = torch.randint(1, 20, (1, 12))
    size, prompt = torch.tensor([12]), torch.tensor([5])
    before = encoder(symbols, size, prompt)
    for changed in range(12):
        other = symbols.clone()
        other[0, changed] = (other[0, changed] + 1) % 20
        moved = (encoder(other, size, prompt) - before).abs().amax(-1)[0] > 1e-6
        assert bool(moved[changed])
        assert not bool((moved[5:] if changed < 5 else moved[:5]).any())
    target_alone = encoder(symbols[:, 5:], torch.tensor([7]), torch.tensor([0]))
    assert torch.allclose(before[:, 5:], target_alone, atol=1e-6)


@torch.no_grad()
def test_padding_of_the_text_changes_nothing():
    torch.manual_seed(0)
    encoder = TextEncoder(20, 16, 3, 5, 0.0).eval()
    symbols = torch.randint(1, 20, (2, 9))
    sizes, prompts = torch.tensor([9, 4]), torch.tensor([2, 1])
    together = encoder(symbols, sizes, prompts)
    single = encoder(symbols[1:, :4], sizes[1:], prompts[1:])
    assert torch.allclose(together[1, :4], single[0], atol=1e-6)
    assert bool((together[1, 4:] == 0).all())


def test_frames_read_the_symbol_under_their_pointer():
    context = torch.randn(2, 3, 4)
    got = text_at(context, POINTER)
    assert torch.equal(got[1, 3], context[1, 1])
