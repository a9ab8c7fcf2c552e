"""Speech: `say` and `voice`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import ConfigError, CorpusError, MissingExtra, SpeechLMError
from .options import Precision, RecognizerFolder, Seed, Transcribe

if TYPE_CHECKING:
    from torch import Tensor

    from ..slm.lines import Line
    from ..slm.prompt import Voice
    from ..slm.speak import Speaker
    from ..slm.transcribe import Transcriber

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
    resume: Annotated[
        bool, typer.Option("--resume", help="With --list: leave out what is written already.")
    ] = False,
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
        float | None,
        typer.Option(help="Lean on text and prompt, for models trained for it; 1 is off."),
    ] = None,
    max_guidance: Annotated[
        float | None,
        typer.Option(help="Lean so far where they say little, as behind noisy prompts."),
    ] = None,
    max_silence: Annotated[
        float | None, typer.Option(min=0.0, help="Longest pause in seconds (0.8); 0 for no limit.")
    ] = None,
    candidates: Annotated[
        int, typer.Option(min=1, help="Takes of each sentence; the best is kept.")
    ] = 1,
    choose: Annotated[
        Literal["faithful", "likeliest", "shortest"],
        typer.Option(
            help="Which take is the best: faithful is what text and prompt make likelier the most."
        ),
    ] = "faithful",
    transcribe: Transcribe = False,
    recognizer: RecognizerFolder = None,
    precision: Precision = "auto",
    model: _Model = None,
) -> None:
    """Speak a text in the voice of a recording.

    Clone only voices whose owners agreed to it.
    """
    if (text is None) == (listing is None):
        raise typer.BadParameter("give a text or --list, one of the two.")
    if out is None:
        raise typer.BadParameter("say where the sound goes: --out.")
    if resume and listing is None:
        raise typer.BadParameter("--resume goes on with a list; give --list.")
    if stream and (listing is not None or candidates > 1):
        raise ConfigError("A stream speaks one text once; leave --list and --candidates out.")
    from ..data_prep.output import require_results_folder
    from ..slm.lines import Line
    from ..slm.shipped import find_voice
    from ..slm.text import GivenPhonemes
    from ..tokenizer.paths import require_audio_target, require_model_folder

    # Whatever needs no model, before anything heavy is imported: a mistake is told at once
    require_model_folder(model)
    voice = None if prompt is None and listing is not None else find_voice(prompt)
    if listing is None:
        text = _spoken(text or "", phonemes)
        require_audio_target(out)
    else:
        require_results_folder(out)
    given = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "guidance": guidance}
    given |= {"max_guidance": max_guidance, "max_silence_seconds": max_silence}
    sampling: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    line = Line(text or "", voice, prompt_text, seed)
    faults = _Faults()
    lines = [line]
    if listing is not None:
        lines = _listed(listing, line, out if resume else None, faults, phonemes)
    if lines:
        from ..slm.sampling import SamplingConfig
        from ..slm.speak import Speaker

        SamplingConfig.of(sampling)  # before the models are read, which takes longer
        if listing is None and voice is not None:
            _require_voice(voice)
        hearer = _hearer(recognizer) if transcribe or recognizer is not None else None
        front_end = GivenPhonemes() if phonemes else None
        if precision == "auto" and (listing is not None or candidates > 1):
            precision = "fp32"  # as fast in batches, and each line is what it is alone
        speaker = Speaker.from_pretrained(model, front_end=front_end, precision=precision)
        sampling["transcriber"] = hearer
        if stream:
            _stream(speaker, line, out, sampling)
        elif listing is None:
            sampling |= {"num_candidates": candidates, "choose": choose}
            _write_all(speaker, [line], [out], sampling, None)
        else:
            sampling |= {"num_candidates": candidates, "choose": choose}
            targets = [out / str(line.out) for line in lines]
            _write_all(speaker, lines, targets, sampling, faults)
    faults.raise_any()


@app.command()
def voice(
    recording: Annotated[Path, typer.Argument(metavar="WAV", help="Recording of the voice.")],
    out: Annotated[Path, typer.Argument(help="File to write, usually OUT.safetensors.")],
    prompt_text: Annotated[str | None, typer.Option(help="What the recording says.")] = None,
    transcribe: Transcribe = False,
    recognizer: RecognizerFolder = None,
    model: _Model = None,
) -> None:
    """Prepare a voice once, for `say --prompt`, so that speech begins sooner.

    Clone only voices whose owners agreed to it.
    """
    from ..slm.shipped import find_voice, require_voice_target
    from ..tokenizer.paths import require_model_folder

    source = find_voice(str(recording))
    require_voice_target(out)
    require_model_folder(model)
    from ..slm.speak import Speaker
    from ..slm.voice_file import save_voice

    _require_voice(source)
    hearer = _hearer(recognizer) if transcribe or recognizer is not None else None
    speaker = Speaker.from_pretrained(model)
    prepared = speaker.prepare_voice(source, prompt_text=prompt_text, transcriber=hearer)
    save_voice(prepared, out)
    _tell(prepared, hearer)
    typer.echo(out)


def _tell(prepared: Voice, hearer: Transcriber | None) -> None:
    """Say what is to be known of a voice before it speaks."""
    if hearer is not None and not prepared.vocabulary:
        typer.echo("What was heard does not fit the recording and was left out.", err=True)
    if prepared.note:
        typer.echo(prepared.note, err=True)


def _require_voice(path: Path) -> None:
    """Refuse a prompt that is neither a recording nor a prepared voice, by its header."""
    from ..slm.shipped import VOICE_SUFFIX
    from ..slm.voice_file import load_voice
    from ..tokenizer.audio import inspect_audio

    if path.suffix == VOICE_SUFFIX:
        load_voice(path)
    else:
        inspect_audio(path)


class _Hearer:
    """A recognizer that tells what it heard: a misheard prompt is a worse voice."""

    def __init__(self, recognizer: Transcriber) -> None:
        self._recognizer = recognizer

    def transcribe(self, waveform: Tensor, sampling_rate: int) -> str:
        heard = self._recognizer.transcribe(waveform, sampling_rate)
        typer.echo(f"Heard in the prompt: {heard!r}", err=True)
        return heard


def _hearer(folder: Path | None) -> _Hearer:
    from ..eval.recognizer import installed_weights
    from ..slm.transcribe import WhisperTranscriber

    if folder is None:
        try:
            folder = Path(installed_weights()[0])
        except MissingExtra as error:
            raise MissingExtra(
                "No Whisper weights are installed to hear the prompt with; run `make scorers`, name "
                "a folder of them by --recognizer, or give --prompt-text."
            ) from error
    return _Hearer(WhisperTranscriber.load(folder))


class _Faults:
    """Lines of a list that failed: each is told at once, and all of them by the exit code."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, error: SpeechLMError | str) -> None:
        self.count += 1
        typer.echo(f"speechlm: {' '.join(str(error).split())}", err=True)

    def raise_any(self) -> None:
        if self.count:
            lines = "1 line was" if self.count == 1 else f"{self.count} lines were"
            raise CorpusError(f"{lines} not spoken; the others, if any, are written.")


def _spoken(text: str, phonemes: bool, where: str = "") -> str:
    """What of a text can be spoken; what cannot is told on stderr. Phonemes stay as they are."""
    from ..slm.signs import note_on
    from ..slm.text import require_text, speakable

    if phonemes:
        return require_text(text)
    spoken, left_out = speakable(text)
    if left_out:
        typer.echo(f"{where}: {note_on(left_out)}" if where else note_on(left_out), err=True)
    return spoken


def _listed(
    listing: Path, default: Line, done: Path | None, faults: _Faults, phonemes: bool
) -> list[Line]:
    """The lines of a list that are still to be spoken; `done` is where to look for the others."""
    from ..slm.lines import read_lines
    from ..slm.shipped import find_voice

    lines = []
    for line in read_lines(listing, faults.add, default):
        try:
            spoken = _spoken(line.text, phonemes, line.where)
            # the option's, a path, was found before
            if line.prompt is None or isinstance(line.prompt, str):
                find_voice(line.prompt)
        except SpeechLMError as error:
            faults.add(f"{line.where}: {error}")
        else:
            lines.append(replace(line, text=spoken))
    if done is None:
        return lines
    waiting = [line for line in lines if not (done / str(line.out)).is_file()]
    if len(waiting) < len(lines):
        typer.echo(f"{len(lines) - len(waiting)} of {len(lines)} lines are written already")
    return waiting


def _write_all(
    speaker: Speaker,
    lines: list[Line],
    targets: list[Path],
    options: dict[str, Any],
    faults: _Faults | None,
) -> None:
    """Speak lines to files; with `faults` those that can be, whatever the others suffer from."""
    from ..tokenizer.audio import write_audio

    failed: set[int] = set()

    def leave_out(place: int, error: SpeechLMError) -> None:
        failed.add(place)
        if faults is not None:
            faults.add(error)

    spoken = speaker.say_many(lines, on_error=leave_out if faults is not None else None, **options)
    kept = [pair for i, pair in enumerate(zip(lines, targets, strict=True)) if i not in failed]
    noted: set[str] = set()
    for (line, target), speech in zip(kept, spoken, strict=True):
        try:
            if faults is not None:
                target.parent.mkdir(parents=True, exist_ok=True)
            write_audio(target, speech.waveform, speech.sampling_rate)
        except (SpeechLMError, OSError) as error:
            if faults is None:
                raise
            faults.add(f"{line.where}: {error}")
            continue
        for note in set(speech.notes) - noted:
            typer.echo(note, err=True)
        noted |= set(speech.notes)
        cut = "" if speech.finish_reason == "end" else f" (cut: {speech.finish_reason})"
        typer.echo(f"{target}: {speech.seconds:.2f} s in {speech.compute_seconds:.2f} s{cut}")


def _stream(speaker: Speaker, line: Line, out: Path, options: dict[str, Any]) -> None:
    """Write pieces to a file while they are generated."""
    from time import perf_counter

    import soundfile

    hearer = options.pop("transcriber")
    prepared = speaker.prepare_voice(line.prompt, prompt_text=line.prompt_text, transcriber=hearer)
    _tell(prepared, hearer)
    begun = perf_counter()
    first = None
    samples = 0
    pieces = speaker.speak_stream(line.text, prepared, seed=line.seed, **options)
    kind = ("OGG", "OPUS") if out.suffix.lower() == ".opus" else (None, None)
    file = soundfile.SoundFile(out, "w", speaker.sampling_rate, 1, kind[1], format=kind[0])
    with file:
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
