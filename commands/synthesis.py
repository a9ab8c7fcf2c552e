"""Corpora made by a synthesizer: `synthesize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Seed

app = typer.Typer(rich_markup_mode=None)


@app.command()
def synthesize(
    out: Annotated[Path, typer.Argument(help="Folder for the corpus, which `prepare` reads.")],
    text: Annotated[
        Path, typer.Option(metavar="FILE", help="What to say: a sentence a line, or a manifest.")
    ],
    hours: Annotated[float, typer.Option(help="Speech to make; more of it later goes on.")] = 1.0,
    speakers: Annotated[int, typer.Option(min=1, help="Voices, mixed of two packs each.")] = 200,
    voice_seed: Annotated[
        int, typer.Option(min=0, help="Another one gives other voices; keep it to keep them.")
    ] = 0,
    seed: Seed = 0,
    voices: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Voice packs (*.bin) of npm's kokoro-js.")
    ] = Path("build/kokoro/package/voices"),
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Kokoro's packages, unpacked, if they are not installed."
        ),
    ] = None,
    exclude: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Say no sentence of this manifest or text; may be repeated."
        ),
    ] = None,
    per_speaker: Annotated[
        bool, typer.Option("--per-speaker", help="Give all speakers equally many sentences.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that share the work, with a model each.")
    ] = 1,
) -> None:
    """Make English speech with phonemes and durations; run again to resume."""
    from ..data_prep.synthesis.corpus import synthesize_corpus
    from ..data_prep.synthesis.narrator import KokoroSource
    from ..data_prep.synthesis.plan import SynthesisPlan, read_sentences
    from ..data_prep.synthesis.voices import VoicePacks, mix_speakers

    mixed = mix_speakers(VoicePacks.load(voices), speakers, voice_seed)
    sentences = read_sentences(text, exclude or [])
    summary = synthesize_corpus(
        SynthesisPlan(sentences, mixed, seed, is_balanced=per_speaker),
        KokoroSource(voices, model),
        out,
        hours=hours,
        workers=workers,
    )
    typer.echo(summary.report())
