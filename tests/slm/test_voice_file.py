"""A prepared voice as a file: what was written is read, and nothing else is."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_language import IDENTITY, V, text, voice_of

from speechlm.errors import CorruptCodes
from speechlm.slm.prompt import Voice
from speechlm.slm.text import SPECIALS, SymbolTable
from speechlm.slm.voice_file import load_voice, save_voice, vocabulary_id

PLAIN = dataclasses.replace(voice_of(1), loudness_dbfs=-23.5, source="some.wav")


def with_text():
    symbols = text(4, 0)
    frames = PLAIN.codes.shape[1]
    pointer = (torch.arange(frames) // 2).clamp(max=len(symbols) - 1)
    return dataclasses.replace(PLAIN, symbols=symbols, pointer=pointer, vocabulary="0" * 16)


@pytest.mark.parametrize("voice", [PLAIN, with_text()], ids=["without text", "with text"])
def test_a_voice_comes_back_as_it_was(voice, tmp_path):
    path = tmp_path / "a.safetensors"
    save_voice(voice, path)
    loaded = load_voice(path)
    for field in dataclasses.fields(Voice):
        wanted, got = getattr(voice, field.name), getattr(loaded, field.name)
        same = torch.equal(wanted, got) if isinstance(wanted, torch.Tensor) else wanted == got
        assert same, field.name
    save_voice(loaded, tmp_path / "b.safetensors")
    assert path.read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert path.stat().st_size < 10_000


def rewritten(path, change_tensors=None, change_header=None):
    """The file again, with something in it changed."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["speechlm"])
    tensors = load_file(path)
    tensors.update(change_tensors(tensors) if change_tensors else {})
    header.update(change_header or {})
    save_file(tensors, path, {"speechlm": json.dumps(header)})


@pytest.mark.parametrize(
    ("tensors", "header", "sentence"),
    [
        (lambda t: {"codes": t["codes"] + V}, None, "a code lies outside"),
        (lambda t: {"codes": t["codes"][:1].contiguous()}, None, "1 codebooks"),
        (lambda t: {"codes": t["codes"][:, 1:].contiguous()}, None, "shapes"),
        (lambda t: {"codes": t["codes"].float()}, None, "int32"),
        (lambda t: {"pointer": t["pointer"] + 1}, None, "walk"),
        (lambda t: {"pointer": 2 * t["pointer"]}, None, "walk"),
        (lambda t: {"symbols": t["symbols"][:1].contiguous()}, None, "leaves the symbols"),
        (lambda t: {"more": t["symbols"].clone()}, None, "exactly"),
        (None, {"format": "speechlm-voice-9"}, "format"),
        (None, {"vocabulary": ""}, "which symbols"),
        (None, {"codec": {}}, "identity"),
        (None, {"loudness_dbfs": "loud"}, "loud"),
        (None, {"other": 1}, "other fields"),
    ],
)
def test_a_damaged_voice_is_refused(tensors, header, sentence, tmp_path):
    path = tmp_path / "a.safetensors"
    save_voice(with_text(), path)
    rewritten(path, tensors, header)
    with pytest.raises(CorruptCodes, match=sentence):
        load_voice(path)


def test_bytes_that_are_no_voice_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(CorruptCodes, match="does not exist"):
        load_voice(path)
    save_voice(PLAIN, path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptCodes, match=r"a\.safetensors"):
            load_voice(path)
    path.write_bytes(bytes(2 << 20))
    with pytest.raises(CorruptCodes, match="larger than 1 MiB"):
        load_voice(path)


def test_a_flipped_bit_gives_a_voice_or_our_error(tmp_path):
    path = tmp_path / "a.safetensors"
    save_voice(PLAIN, path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 11):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        try:
            loaded = load_voice(path)
        except CorruptCodes:
            continue
        assert 0 <= int(loaded.codes.min()) and int(loaded.codes.max()) < IDENTITY.codebook_size


def test_a_vocabulary_is_named_by_its_symbols():
    table = SymbolTable([*SPECIALS, "a", "b"])
    assert vocabulary_id(table) == vocabulary_id(SymbolTable([*SPECIALS, "a", "b"]))
    assert vocabulary_id(table) != vocabulary_id(SymbolTable([*SPECIALS, "b", "a"]))
