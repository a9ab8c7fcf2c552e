"""What `make demo` runs: one sentence in a shipped voice, with its picture and its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import CorruptWeights, MissingExtra
from ..slm.speak import Speaker, shipped_voices
from ..tokenizer.audio import read_audio, write_audio
from .plots import save_spectrograms
from .scorers import Scorers, mean_similarity, word_errors

SENTENCE = "The birch canoe slid on the smooth planks, and the evening was quiet again."


def demonstrate(out: Path, sentence: str = SENTENCE, seed: int = 0) -> dict[str, Any]:
    """Speak a sentence with the shipped models in the first shipped voice.

    Args:
        out: Folder for `demo.wav` and `demo.png`; made if absent.
        sentence: What to say.
        seed: Of the sampling.

    Returns:
        Paths, seconds, the real-time factor (seconds of speech by seconds of computing), the finish
        reason, the word error rate and the similarity to the prompt (None without their scorers),
        and notes that say what was left out.

    Raises:
        SpeechLMError: If the models are missing or cannot speak the sentence.
    """
    speaker = Speaker.from_pretrained()
    voices = shipped_voices()
    if not voices:
        raise CorruptWeights("No voices ship with this installation; install speechlm again.")
    voice, prompt = next(iter(voices.items()))
    speech = speaker.say(sentence, prompt, seed=seed)
    rate = speech.sampling_rate
    out.mkdir(parents=True, exist_ok=True)
    write_audio(out / "demo.wav", speech.waveform, rate)
    notes = list(speech.notes)
    prompt_waveform = read_audio(prompt, rate)
    picture: str | None = str(out / "demo.png")
    try:
        save_spectrograms(
            out / "demo.png",
            {f"prompt: {voice}": (prompt_waveform, rate), "spoken": (speech.waveform, rate)},
        )
    except MissingExtra as error:
        picture = None
        notes.append(str(error))
    scorers = Scorers.installed()
    heard = scorers.hear(speech.waveform, rate)
    score = word_errors([sentence], [heard])
    similarity = mean_similarity(
        [scorers.voice(speech.waveform, rate)], [scorers.voice(prompt_waveform, rate)]
    )
    return {
        "sentence": sentence,
        "voice": voice,
        "sound": str(out / "demo.wav"),
        "spectrogram": picture,
        "seconds": round(speech.seconds, 3),
        "x_realtime": round(speech.seconds / max(speech.compute_seconds, 1e-9), 2),
        "finish_reason": speech.finish_reason,
        "heard": heard,
        "word_error_rate": None if score is None else round(score.word_error_rate, 4),
        "similarity_to_prompt": None if similarity is None else round(similarity, 3),
        "notes": notes + scorers.notes,
    }
