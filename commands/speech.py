"""Speech: `say` and `voice`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import ConfigError
from .options import Seed

if TYPE_CHECKING:
    from ..slm.speak import Speaker

app = typer.Typer(rich_markup_mode=None)

_Model = Annotated[Path | None, typer.Option(help="Model folder; the shipped models if not given.")]


@app.command()
def say(
    text: Annotated[str | None, typer.Argument(help="What to say.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Audio file; with --list a folder.")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="Recording, file of `voice`, or clara (default), isla, martin, oliver."),
    ] = None,
    prompt_text: Annotated[str | None, typer.Option(help="What the prompt says.")] = None,
    listing: Annotated[
        Path | None,
        typer.Option(
            "--list", metavar="FILE", help="Speak JSON lines: text, prompt, prompt_text, seed, out."
        ),
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Write the sound as it comes, and tell its delay.")
    ] = False,
    phonemes: Annotated[
        bool, typer.Option("--phonemes", help="The text is phonemes already.")
    ] = False,
    seed: Seed = 0,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, help="Lower is steadier, higher is livelier.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Sample from the best so many.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Sample from the likeliest with this share.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Lean on text and prompt, for models trained for it.")
    ] = None,
    candidates: Annotated[
        int, typer.Option(min=1, help="Takes of each sentence; the best is kept.")
    ] = 1,
    choose: Annotated[
        Literal["likeliest", "shortest"], typer.Option(help="Which take is the best.")
    ] = "likeliest",
    model: _Model = None,
) -> None:
    """Speak a text in the voice of a recording.

    Clone only voices whose owners agreed to it.
    """
    if (text is None) == (listing is None):
        raise typer.BadParameter("give a text or --list, one of the two.")
    if out is None:
        raise typer.BadParameter("say where the sound goes: --out.")
    from ..slm.lines import Line, read_lines
    from ..slm.speak import Speaker
    from ..slm.text import GivenPhonemes
    from ..slm.voices import find_voice

    # Before the models load: what a user most often gets wrong
    voice = find_voice(prompt)
    lines = [Line(text or "", voice, prompt_text, seed)] if listing is None else read_lines(listing)
    given = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "guidance": guidance}
    sampling: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    front_end = GivenPhonemes() if phonemes else None
    speaker = Speaker.from_pretrained(model, front_end=front_end)
    if stream:
        if listing is not None or candidates > 1:
            raise ConfigError("A stream speaks one text once; leave --list and --candidates out.")
        _stream(speaker, lines[0], out, sampling)
        return
    sampling |= {"num_candidates": candidates, "choose": choose}
    _write(speaker, lines, out, is_list=listing is not None, options=sampling)


@app.command()
def voice(
    recording: Annotated[Path, typer.Argument(metavar="WAV", help="Recording of the voice.")],
    out: Annotated[Path, typer.Argument(help="File to write, usually OUT.safetensors.")],
    prompt_text: Annotated[str | None, typer.Option(help="What the recording says.")] = None,
    model: _Model = None,
) -> None:
    """Prepare a voice once, for `say --prompt`, so that speech begins sooner.

    Clone only voices whose owners agreed to it.
    """
    from ..slm.speak import Speaker
    from ..slm.voice_file import save_voice
    from ..slm.voices import find_voice

    source = find_voice(str(recording))
    speaker = Speaker.from_pretrained(model)
    save_voice(speaker.prepare_voice(source, prompt_text=prompt_text), out)
    typer.echo(out)


def _write(
    speaker: Speaker, lines: list[Any], out: Path, *, is_list: bool, options: dict[str, Any]
) -> None:
    """Speak lines to a file, or to files in a folder."""
    from ..tokenizer.audio import write_audio

    if is_list:
        out.mkdir(parents=True, exist_ok=True)
    noted: set[str] = set()
    for line, speech in zip(lines, speaker.say_many(lines, **options), strict=True):
        target = out / line.out if is_list else out
        if is_list:
            target.parent.mkdir(parents=True, exist_ok=True)
        write_audio(target, speech.waveform, speech.sampling_rate)
        for note in set(speech.notes) - noted:
            typer.echo(note, err=True)
        noted |= set(speech.notes)
        cut = "" if speech.finish_reason == "end" else f" (cut: {speech.finish_reason})"
        typer.echo(f"{target}: {speech.seconds:.2f} s in {speech.compute_seconds:.2f} s{cut}")


def _stream(speaker: Speaker, line: Any, out: Path, sampling: dict[str, Any]) -> None:
    """Write pieces to a file while they are generated."""
    from time import perf_counter

    import soundfile

    prepared = speaker.prepare_voice(line.prompt, prompt_text=line.prompt_text)
    begun = perf_counter()
    first = None
    samples = 0
    pieces = speaker.speak_stream(line.text, prepared, seed=line.seed, **sampling)
    with soundfile.SoundFile(out, "w", speaker.sampling_rate, 1) as file:
        for piece in pieces:
            first = perf_counter() - begun if first is None else first
            file.write(piece.numpy())
            file.flush()
            samples += len(piece)
    seconds = samples / speaker.sampling_rate
    delay = 1000 * (first or 0.0)
    typer.echo(
        f"{out}: {seconds:.2f} s in {perf_counter() - begun:.2f} s, the first after {delay:.0f} ms"
    )
