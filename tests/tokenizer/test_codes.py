"""`Codes` and their files."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from speechlm.errors import CorruptCodes, ModelMismatch
from speechlm.tokenizer.codes import CodecIdentity, Codes

IDENTITY = CodecIdentity("test", "0123456789abcdef", 16_000, 320, 1024, 6, 3)


def make(books: int = 6, samples: tuple[int, ...] = (1000, 641)) -> Codes:
    frames = -(-max(samples) // 320)
    values = torch.randint(1024, (len(samples), books, frames))
    return Codes(values, torch.tensor(samples), IDENTITY)


@given(books=st.integers(3, 6), samples=st.lists(st.integers(1, 5000), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_files_give_back_what_was_saved(tmp_path_factory, books: int, samples: list[int]) -> None:
    path = tmp_path_factory.mktemp("codes") / "x.codes"
    codes = make(books, tuple(samples))
    codes.save(path)
    again = Codes.load(path)
    assert torch.equal(again.values, codes.values)
    assert torch.equal(again.num_samples, codes.num_samples)
    assert again.identity == codes.identity
    assert [again.item(i).shape[1] for i in range(len(samples))] == [-(-n // 320) for n in samples]


def test_equal_codes_give_equal_bytes_in_a_file_that_safetensors_reads(tmp_path) -> None:
    """The library writes metadata in another order each time."""
    codes = make()
    for number in range(8):
        codes.save(tmp_path / f"{number}.codes")
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    assert torch.equal(load_file(tmp_path / "0.codes")["values"].long(), codes.values)


def test_files_with_metadata_in_any_order_are_read(tmp_path) -> None:
    codes = make()
    tensors = {"values": codes.values.to(torch.int16), "num_samples": codes.num_samples}
    metadata = {"codec": IDENTITY.to_json(), "format": "speechlm-codes-1"}
    save_file(tensors, tmp_path / "old.codes", metadata)
    assert torch.equal(Codes.load(tmp_path / "old.codes").values, codes.values)


def test_a_cut_file_is_refused_at_every_place(tmp_path) -> None:
    make().save(tmp_path / "x.codes")
    data = (tmp_path / "x.codes").read_bytes()
    for cut in range(0, len(data), 7):
        (tmp_path / "cut.codes").write_bytes(data[:cut])
        with pytest.raises(CorruptCodes, match=r"cut\.codes"):
            Codes.load(tmp_path / "cut.codes")


def test_an_altered_file_never_gives_other_codes(tmp_path) -> None:
    codes = make()
    codes.save(tmp_path / "x.codes")
    data = (tmp_path / "x.codes").read_bytes()
    refused = 0
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= 1
        (tmp_path / "y.codes").write_bytes(altered)
        try:
            again = Codes.load(tmp_path / "y.codes")
        except CorruptCodes:
            refused += 1
        else:  # what names no code, such as a blank of the header
            assert torch.equal(again.values, codes.values) and again.identity == codes.identity
            assert torch.equal(again.num_samples, codes.num_samples)
    assert refused > 0.9 * len(data)


@given(data=st.binary(max_size=300))
@settings(max_examples=50, deadline=None)
def test_random_bytes_are_refused(tmp_path_factory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("codes") / "x.codes"
    path.write_bytes(data)
    with pytest.raises(CorruptCodes):
        Codes.load(path)


@pytest.mark.parametrize(
    ("values", "samples"),
    [
        (torch.zeros(1, 6, 2), [640]),
        (torch.zeros(1, 2, 2, dtype=torch.long), [640]),
        (torch.zeros(1, 7, 2, dtype=torch.long), [640]),
        (torch.zeros(1, 6, 2, dtype=torch.long), [641]),
        (torch.zeros(1, 6, 2, dtype=torch.long), [640, 640]),
        (torch.full((1, 6, 2), 1024), [640]),
        (torch.full((1, 6, 2), -1), [640]),
    ],
)
def test_impossible_codes_cannot_be_made(values: torch.Tensor, samples: list[int]) -> None:
    with pytest.raises(CorruptCodes):
        Codes(values, torch.tensor(samples), IDENTITY)


def test_bit_rate_and_identity() -> None:
    assert make(4).bits_per_second == 2000
    other = CodecIdentity("test", "ffff", 16_000, 320, 1024, 6, 3)
    with pytest.raises(ModelMismatch, match="shard-7"):
        IDENTITY.require(other, "shard-7")
    assert CodecIdentity.from_json(IDENTITY.to_json()) == IDENTITY
    with pytest.raises(CorruptCodes):
        CodecIdentity.from_json('{"codec_id": "x"}')
