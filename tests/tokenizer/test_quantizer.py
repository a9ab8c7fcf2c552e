"""MCRVQ as the paper has it, and without the published code's bug."""

import pytest
import torch

from speechlm.tokenizer.quantizer import EMA_DECAY, MaskedChannelQuantizer


def make(
    num_masked: int = 3, num_books: int = 5, size: int = 12, entries: int = 32
) -> MaskedChannelQuantizer:
    torch.manual_seed(1)
    quantizer = MaskedChannelQuantizer(size, num_books, entries, num_masked).eval()
    quantizer.initialise(torch.randn(2000, size))
    return quantizer


def everything(latent: torch.Tensor) -> torch.Tensor:
    return torch.ones(*latent.shape[:2], 1, dtype=torch.bool)


def test_paper_cut_points() -> None:
    assert [s.stop for s in MaskedChannelQuantizer(128, 8, 4, 3).slices] == [42, 85, 128]


def test_masked_books_see_only_their_slice() -> None:
    quantizer = make()
    latent = torch.randn(1, 40, 12)
    before = quantizer(latent, everything(latent), 3).codes
    changed = latent.clone()
    changed[..., 4:8] += 3.0
    after = quantizer(changed, everything(latent), 3).codes
    assert torch.equal(before[:, [0, 2]], after[:, [0, 2]])
    assert not torch.equal(before[:, 1], after[:, 1])


def test_fourth_book_quantizes_what_the_masked_ones_leave() -> None:
    quantizer = make()
    latent = torch.randn(1, 40, 12)
    codes = quantizer(latent, everything(latent), 4).codes
    left = latent - quantizer.decode(codes[:, :3])
    distances = torch.cdist(left[0], quantizer.codebooks[3])
    assert torch.equal(distances.argmin(-1), codes[0, 3])


def test_training_and_encoding_give_the_same_codes() -> None:
    quantizer = make()
    latent = torch.randn(2, 30, 12)
    encoded = quantizer(latent, everything(latent), 5).codes
    quantizer.train()
    assert torch.equal(quantizer(latent, everything(latent), 5).codes, encoded)


@pytest.mark.parametrize("num_masked", [0, 1, 3])
def test_decoding_codes_gives_the_quantized_latent_and_more_books_come_nearer(
    num_masked: int,
) -> None:
    quantizer = make(num_masked)
    latent = torch.randn(2, 50, 12)
    errors = []
    for books in range(max(1, num_masked), 6):
        out = quantizer(latent, everything(latent), books)
        assert torch.allclose(quantizer.decode(out.codes), out.latent, atol=1e-5)
        errors.append(float((out.latent - latent).square().mean()))
    assert errors == sorted(errors, reverse=True)


def test_books_per_item_are_those_of_one_number() -> None:
    quantizer = make()
    latent = torch.randn(2, 20, 12)
    mixed = quantizer(latent, everything(latent), torch.tensor([3, 5])).latent
    assert torch.allclose(mixed[0], quantizer(latent, everything(latent), 3).latent[0])
    assert torch.allclose(mixed[1], quantizer(latent, everything(latent), 5).latent[1])


def test_gradient_passes_straight_through() -> None:
    quantizer = make()
    latent = torch.randn(1, 10, 12, requires_grad=True)
    weights = torch.randn(1, 10, 12)
    (quantizer(latent, everything(latent), 5).latent * weights).sum().backward()
    assert torch.allclose(latent.grad, weights)


def test_average_update_is_the_textbook_one_on_valid_frames_only() -> None:
    quantizer = make(num_masked=0, num_books=1, entries=4)
    quantizer.counts.fill_(5.0)
    quantizer.sums.copy_(quantizer.codebooks * 5)
    latent = torch.randn(1, 30, 12)
    mask = everything(latent).clone()
    mask[:, 20:] = False
    before = quantizer.codebooks[0].clone()
    quantizer.train()
    codes = quantizer(latent, mask, 1).codes[0, 0, :20]
    for entry in range(4):
        chosen = latent[0, :20][codes == entry]
        count = EMA_DECAY * 5 + (1 - EMA_DECAY) * len(chosen)
        total = EMA_DECAY * 5 * before[entry] + (1 - EMA_DECAY) * chosen.sum(0)
        assert torch.allclose(quantizer.codebooks[0, entry], total / count, atol=1e-5)


def test_a_dead_code_restarts_and_stays_alive() -> None:
    quantizer = make(num_masked=0, num_books=1, entries=8)
    quantizer.codebooks[0, 3] = 1000.0
    quantizer.sums[0, 3] = 0.0
    quantizer.counts[0, 3] = 1e-4
    quantizer.train()
    latent = torch.randn(4, 50, 12)
    quantizer(latent, everything(latent), 1)
    assert quantizer.codebooks[0, 3].abs().max() < 10
    quantizer(latent, everything(latent), 1)
    assert quantizer.codebooks[0, 3].abs().max() < 10


def test_initialisation_uses_every_entry_and_keeps_hidden_channels_zero() -> None:
    quantizer = make()
    latent = torch.randn(1, 2000, 12, generator=torch.Generator().manual_seed(1))
    codes = quantizer(latent, everything(latent), 5).codes[0]
    assert all(len(book.unique()) >= 30 for book in codes)
    assert quantizer.codebooks[0, :, 4:].abs().max() == 0
    assert quantizer.codebooks[1, :, :4].abs().max() == 0


def test_too_few_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot initialise"):
        MaskedChannelQuantizer(12, 5, 32, 3).initialise(torch.randn(31, 12))
