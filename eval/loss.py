"""How does speech sound over a link that loses packets: ours beside Opus and AMR-WB, at equal total rates.

Every way is heard through the same draws of the same networks: equal seeds, and for packets of one length
equal packets lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..data_prep.readers import Recording
from ..errors import ConfigError
from ..tokenizer.audio import read_audio, write_audio
from ..tokenizer.codec import CodecModel
from ..transmission.link.loss import parse_loss
from ..transmission.link.protocols import BlockCoder, FineCoder
from .codec import MAX_SECONDS, find_recordings
from .journal import ItemJournal, stamp_of
from .loss_codecs import OpusWay, other_ways
from .loss_link import NO_COPIES, LinkSource, LinkWay, find_profile, link_ways
from .loss_plots import save_loss_curves
from .loss_tables import (
    ALONE,
    NO_LOSS,
    ORIGINAL,
    difference_rows,
    exactness_rows,
    fall_rows,
    link_rows,
    quality_rows,
)
from .loss_ways import OURS, LossWay, PacketStream
from .plots import save_spectrograms
from .rate_plots import PANELS
from .rate_scores import RateJudge, has_words, installed_scorers, undefined_notes
from .report import Report, Row
from .scorers import Scorers

JOURNAL_NAME = "loss.journal"
LOSSES = (NO_LOSS, "0.05", "0.1", "0.2", "0.3", "wlan", "outage:0.2,2")
LINKS = (
    "default",
    "default:repeat",
    "default:silence",
    "redundant-10",
    "redundant-30",
    "low-delay",
    "lean",
    "no-copies",
    "no-copies:model:hung",
)
BASELINES = "opus,amr-wb"
RATE_OF = "redundant-30"
NUM_SEEDS = 5
_SHOWN_LOSS = "0.2"  # of the spectrograms
_SHOWN = {"no concealment": "silence", "repetition": "repeat", "model": "model"}


def evaluate_loss(
    folder: Path,
    out: Path,
    *,
    codec: CodecModel,
    losses: Sequence[str] = LOSSES,
    links: Sequence[str] = LINKS,
    baselines: str = BASELINES,
    rate_of: str = RATE_OF,
    num_seeds: int = NUM_SEEDS,
    limit: int | None = None,
    split: str = "valid",
    scorers: Scorers | None = None,
    base_coder: BlockCoder | None = None,
    fine_coder: FineCoder | None = None,
) -> dict[str, Any]:
    """Send recordings over lossy networks, several times each, by our link and other codecs; score them.

    Killed and called again, it goes on after the last whole recording and way.

    Args:
        folder: Recordings (searched to any depth), a JSON-lines list of them, or the folder that
            `prepare` wrote.
        out: Folder of the report: `report.json`, `report.md`, `items.jsonl`, `loss-quality.png`,
            `loss-spectrograms.png` and its sounds.
        codec: Our codec, in evaluation mode.
        losses: Names of losses, as `parse_loss` reads them.
        links: Our ways, as `link_ways` reads them.
        baselines: Other codecs, as `other_ways` reads them; empty for none.
        rate_of: The profile whose total rate the other codecs are given.
        num_seeds: Draws of each network that loses something. Words are heard in the first one only.
        limit: At most so many recordings, evenly spread over the list.
        split: Where recordings have splits, the one to use.
        scorers: Recognizer, and PLCMOS as the quality predictor; None takes those that are installed.
        base_coder, fine_coder: What codes our packets; what ships if not given.

    Returns:
        What `report.json` holds: the tables `quality`, `link`, `falls`, `differences`, `exactness`.

    Raises:
        CorpusError: If there are no recordings.
        UnsupportedAudio: If a recording cannot be read.
        ConfigError: If a loss, a way or a baseline is unknown, or the codec is not causal.
    """
    if num_seeds < 1 or not losses:
        raise ConfigError("A loss report needs one seed and one loss at least.")
    losses = list(dict.fromkeys(losses))
    rates = {loss: parse_loss(loss).rate for loss in losses}
    source = LinkSource(codec, base_coder, fine_coder)
    others, absent = other_ways(baselines, codec.config.sampling_rate)
    ways: list[LossWay] = [*link_ways(source, links), *others]
    find_profile(rate_of)
    recordings, unusable = find_recordings(folder, split, limit)
    if scorers is None:
        scorers = installed_scorers(with_words=any(has_words(r.text) for r in recordings))
    report = Report(out, f"Speech of {codec.identity.codec_id} over links that lose packets")
    judge = RateJudge(scorers)
    run = _Run(report, judge, source, ways, rates, num_seeds, rate_of)
    made_of = [
        [stamp_of(recording) for recording in recordings],
        codec.identity.to_json(),
        [way.made_of for way in ways],
        [losses, num_seeds, repr(find_profile(rate_of))],
        judge.names,
    ]
    width = 1 + len(ways)  # the originals come first
    with ItemJournal(out / JOURNAL_NAME, made_of) as journal:
        keys = range(width * len(recordings))
        waiting = [key for key in keys if key not in journal.known]
        read: tuple[int, Tensor] = (-1, torch.zeros(0))
        for key in tqdm(waiting, desc="loss", unit="way"):
            number, place = divmod(key, width)
            if read[0] != number:
                audio = recordings[number].audio
                read = (number, read_audio(audio, codec.config.sampling_rate, MAX_SECONDS))
                judge.begin()
            rows = run.measure(recordings[number], read[1], number, place)
            journal.add(key, rows, [])
        report.items = [row for key in keys for row in journal.known[key]["rows"]]
        report.facts = {
            "codec": asdict(codec.identity),
            "recordings": len(recordings),
            "speakers": len({r.speaker for r in recordings if r.speaker}) or None,
            "seconds": sum(r["seconds"] for r in report.items if r["system"] == ORIGINAL),
            "split": split if any(r.split for r in recordings) else None,
            "seeds": num_seeds,
            "losses": {loss: rates[loss] for loss in losses},
            "base_coder": source.base_coder.fingerprint,
            "fine_coder": source.fine_coder.fingerprint,
            **judge.names,
        }
        notes = [*judge.notes, *scorers.notes, *absent, *undefined_notes(report.items)]
        if unusable:
            notes.append(f"{unusable} entries of {folder} name no usable recording.")
        if not any(has_words(recording.text) for recording in recordings):
            notes.append("No recording has an exact transcript, so there is no word error rate.")
        for note in notes:
            report.note(note)
        run.fill_tables(losses)
        first = recordings[0]
        run.show_example(read_audio(first.audio, codec.config.sampling_rate, MAX_SECONDS))
        found = report.save()
        journal.discard()
    return found


@dataclass
class _Run:
    """Recordings through every way, and what the report makes of the rows."""

    report: Report
    judge: RateJudge
    source: LinkSource
    ways: Sequence[LossWay]
    rates: dict[str, float]
    num_seeds: int
    rate_of: str
    _target: tuple[int, float] = field(default=(-1, 0.0))

    @property
    def rate(self) -> int:
        return self.source.codec.config.sampling_rate

    def measure(self, recording: Recording, waveform: Tensor, number: int, place: int) -> list[Row]:
        """Rows of one recording: of the original and the codec alone, or of one way at every loss."""
        text = recording.text or ""
        labels: Row = {"id": recording.id, "seconds": len(waveform) / self.rate}
        if place == 0:
            rows = []
            sounds = {ORIGINAL: waveform, ALONE: self.source.own_sound(waveform)}
            for name, sound in sounds.items():
                original = None if name == ORIGINAL else waveform
                row = labels | {"system": name, "kind": name, "loss": NO_LOSS}
                rows.append(row | self.judge.score(original, sound, text, self.rate))
            return rows
        way = self.ways[place - 1]
        target = self._total_rate(waveform, number)
        labels |= {"system": way.name, "kind": way.kind, "latency_ms": 1000 * way.latency_seconds}
        if isinstance(way, LinkWay):
            labels |= {"profile": way.profile_name, "concealment": way.concealment}
            labels["is_hung"] = way.is_hung
        if isinstance(way, OpusWay):
            labels["has_copies"] = way.has_copies
        rows = []
        for loss, rate in self.rates.items():
            sent = way.send(waveform, rate, target)
            for seed in range(self.num_seeds if rate else 1):
                # every recording meets other draws, and every way the same ones
                model = parse_loss(loss, seed=1000 * number + seed + 1)
                heard, counts = way.receive(sent, model)
                row = labels | {"loss": loss, "seed": seed, **_rates(sent), **counts}
                if isinstance(way, LinkWay) and not rate:
                    own = self.source.own_sound(waveform)
                    row["codes"] = sent.data.codes.numel()
                    row["differing_codes"] = self.source.differing_codes(sent.data)
                    row["waveform_difference"] = float((heard - own).abs().max())
                words = text if seed == 0 else ""
                rows.append(row | self.judge.score(waveform, heard, words, self.rate))
        return rows

    def fill_tables(self, losses: Sequence[str]) -> None:
        """Tables and the picture, from the report's items."""
        items, tables = self.report.items, self.report.tables
        tables["quality"] = quality_rows(items)
        tables["link"] = link_rows(items)
        tables["falls"] = fall_rows(items, losses)
        tables["differences"] = difference_rows(items)
        tables["exactness"] = exactness_rows(items)
        for name in [name for name, rows in tables.items() if not rows]:
            del tables[name]
        self.report.note(
            "total_bits_per_second holds 40 bytes of IP, UDP and RTP a packet. Other codecs were given, for "
            f"each recording, the total rate of the profile {self.rate_of}, or what they can do at the least."
        )
        self.report.note(
            "latency_ms is algorithmic: what the codec looks ahead, the packet, and the packets that are "
            "waited for to repair or conceal; no jitter buffer, network or computing."
        )
        drawn = [row for row in tables["quality"] if row["system"] not in (ORIGINAL, ALONE)]
        if any(row.get(name) is not None for name in PANELS for row in drawn):
            ours = [way.name for way in self.ways if way.kind == OURS]
            self.report.add_figure(
                "loss-quality.png",
                "Quality over loss: ours in full lines, others dashed; losses that are no mere share at the "
                "right",
                lambda path: save_loss_curves(path, drawn, ours),
            )

    def show_example(self, waveform: Tensor) -> None:
        """One recording whose packets are lost, without any copies: what concealment makes of it."""
        sounds = {ORIGINAL: waveform}
        for title, concealment in _SHOWN.items():
            way = LinkWay(self.source, NO_COPIES, concealment)
            sent = way.send(waveform, 0.0, 0.0)
            sounds[title], _ = way.receive(sent, parse_loss(_SHOWN_LOSS, seed=1))
        share = f"{100 * float(_SHOWN_LOSS):g} % of the packets lost, none of them copied"
        self.report.add_figure(
            "loss-spectrograms.png",
            f"{share}: the original, no concealment, repetition, the model",
            lambda path: save_spectrograms(
                path, {title: (sound, self.rate) for title, sound in sounds.items()}
            ),
        )
        for title, sound in sounds.items():
            name = f"example-{title.replace(' ', '-')}.wav"
            write_audio(self.report.folder / name, sound, self.rate)
            self.report.sounds[name] = title if title == ORIGINAL else f"{title}, {share}"

    def _total_rate(self, waveform: Tensor, number: int) -> float:
        if self._target[0] != number:
            profile = find_profile(self.rate_of)
            told = self.source.sent(waveform, profile).statistics
            seconds = len(waveform) / self.rate
            stream = PacketStream(seconds, told.num_packets, told.num_bytes, None)
            self._target = (number, stream.total_bits_per_second)
        return self._target[1]


def _rates(sent: PacketStream) -> Row:
    return {
        "payload_bits_per_second": sent.payload_bits_per_second,
        "total_bits_per_second": sent.total_bits_per_second,
    }
