"""A manifest of a few speakers who say a few sentences."""

from __future__ import annotations

from pathlib import Path

from speechlm.data_prep.manifest import Utterance, write_manifest


def manifest_of(folder: Path, speakers: int = 4, each: int = 3, seconds: float = 3.0) -> Path:
    """Speaker s0 in the split train, the others held out; the recordings are named, not made."""
    utterances = []
    for speaker in range(speakers):
        for number in range(each):
            audio = folder / "audio" / f"s{speaker}-{number}.wav"
            audio.parent.mkdir(exist_ok=True)
            audio.write_bytes(b"x")
            split = "train" if speaker == 0 else "valid"
            text = f"speaker {speaker} says sentence number {number}"
            utterances.append(Utterance(audio.stem, audio, seconds, text, f"s{speaker}", split))
    write_manifest(folder / "manifest.jsonl", utterances)
    return folder / "manifest.jsonl"
