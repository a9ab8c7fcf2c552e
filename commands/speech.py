"""Speech: `say`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Seed

app = typer.Typer(rich_markup_mode=None)


@app.command()
def say(
    text: Annotated[str, typer.Argument(help="What to say.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Audio file to write.")],
    prompt: Annotated[
        str | None,
        typer.Option(
            help="Recording of the voice, or a shipped one: clara (default), isla, martin, oliver."
        ),
    ] = None,
    prompt_text: Annotated[str | None, typer.Option(help="What the prompt says.")] = None,
    seed: Seed = 0,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, help="Lower is steadier, higher is livelier.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Sample from the best so many.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Model folder; the shipped models if not given.")
    ] = None,
) -> None:
    """Speak a text in the voice of a recording.

    Clone only voices whose owners agreed to it.
    """
    from ..slm.speak import Speaker, find_voice
    from ..tokenizer.audio import write_audio

    voice = find_voice(prompt)  # before the models load
    sampling: dict[str, Any] = {"temperature": temperature, "top_k": top_k}
    given = {name: value for name, value in sampling.items() if value is not None}
    speaker = Speaker.from_pretrained(model)
    speech = speaker.say(text, voice, prompt_text=prompt_text, seed=seed, **given)
    write_audio(out, speech.waveform, speech.sampling_rate)
    for note in speech.notes:
        typer.echo(note, err=True)
    typer.echo(f"{out}: {speech.seconds:.2f} s in {speech.compute_seconds:.2f} s")
