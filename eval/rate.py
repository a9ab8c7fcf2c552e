"""What does speech cost and how does it sound: our ways over a low rate beside other codecs.

Every bit of ours is counted in a whole `.lmc` stream that was written, read and played again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ..data_prep.readers import Recording
from ..errors import ConfigError, CorruptStream, UnsupportedAudio
from ..tokenizer.audio import read_audio, write_audio
from ..tokenizer.codec import CodecModel
from ..tokenizer.files import write_atomically
from ..transmission.codes_stream import CHUNK_FRAMES
from .baselines import find_baselines, require_distinct
from .codec import MAX_SECONDS, find_recordings
from .journal import ItemJournal, stamp_of
from .program_codec import ProgramCodec, processor_seconds
from .rate_plots import PANELS, save_rate_curves
from .rate_scores import RateJudge, has_words, installed_scorers
from .rate_tables import (
    BASELINE,
    MOST_OVER,
    MOST_OVER_BITS,
    ORIGINAL,
    coding_rows,
    difference_rows,
    failure_notes,
    quality_rows,
    rate_rows,
)
from .rate_ways import RAW, STATIC, Sender, Way, find_ways, model_bits, read_codes, stream_size
from .report import Report, Row
from .scorers import Scorers

NUM_EXAMPLES = 1
JOURNAL_NAME = "rate.journal"
PEERS = ("Codec2 3200", "Opus 6 CBR")  # which ours, at half their rate and less, should outdo
BASELINES = (
    "opus:6cbr,opus:8cbr,opus:12cbr,codec2:700c,codec2:1300,codec2:2400,codec2:3200,"
    "amr-wb:6.6,amr-wb:8.85,amr-wb:12.65,speex:0,speex:2,speex:4"
)


def evaluate_rate(
    folder: Path,
    out: Path,
    *,
    codec: CodecModel,
    entropy: Sequence[Path] = (),
    fine: Sequence[Path] = (),
    chunk_frames: int = CHUNK_FRAMES,
    limit: int | None = None,
    split: str = "valid",
    baselines: str | None = BASELINES,
    scorers: Scorers | None = None,
) -> dict[str, Any]:
    """Send recordings through `.lmc` streams and through other codecs; count bits, score the sound.

    Killed and called again, it goes on after the last whole recording.

    Args:
        folder: Recordings (searched to any depth), a JSON-lines list of them, or the folder that
            `prepare` wrote.
        out: Folder of the report: `report.json`, `report.md`, `items.jsonl`, `rate-quality.png`, and
            the sounds and streams of the first recording.
        codec: Our codec, in evaluation mode.
        entropy: Static tables and entropy models beside those that ship.
        fine: Fine models beside those that ship.
        chunk_frames: Frames that are coded together.
        limit: At most so many recordings, evenly spread over the list.
        split: Where recordings have splits, the one to use.
        baselines: Programmes beside ours, as `opus:6cbr,codec2` or `all`; None or empty for none.
        scorers: Recognizer, and PLCMOS as the quality predictor; None takes those that are installed.

    Returns:
        What `report.json` holds: the tables `quality`, `rate`, and where there is something to tell
        `entropy_coding` and `differences`.

    Raises:
        CorpusError: If there are no recordings.
        UnsupportedAudio: If a recording cannot be read.
        ConfigError: If a baseline is unknown.
        ModelMismatch: If a model is not of this codec.
        CorruptStream: If a stream of ours does not come back as it was sent.
    """
    ways, notes = find_ways(codec, entropy, fine, chunk_frames)
    programmes, absent = find_baselines(baselines)
    require_distinct([*(way.name for way in ways), *(system.name for system in programmes)])
    recordings, unusable = find_recordings(folder, split, limit)
    if scorers is None:
        scorers = installed_scorers(with_words=any(has_words(r.text) for r in recordings))
    report = Report(out, f"Rate and quality of {codec.identity.codec_id}")
    judge = RateJudge(scorers)
    notes = [*judge.notes, *scorers.notes, *notes, *absent]
    if unusable:
        notes.append(f"{unusable} entries of {folder} name no usable recording and are left out.")
    if not any(has_words(recording.text) for recording in recordings):
        notes.append("No recording has an exact transcript, so there is no word error rate.")
    run = _Run(report, judge, codec, ways, programmes)
    made_of = [
        [stamp_of(recording) for recording in recordings],
        codec.identity.to_json(),
        [way.made_of for way in ways],
        [system.name for system in programmes],
        judge.names,
    ]
    with ItemJournal(out / JOURNAL_NAME, made_of) as journal:
        waiting = [number for number in range(len(recordings)) if number not in journal.known]
        for place, number in enumerate(tqdm(waiting, desc="rate", unit="recording")):
            recording = recordings[number]
            waveform = read_audio(recording.audio, codec.config.sampling_rate, MAX_SECONDS)
            if place == 0:  # the first call pays for what no later one pays for
                run.warm_up(waveform)
            journal.add(number, run.measure(recording, waveform, number), [])
        report.items = [
            row for number in range(len(recordings)) for row in journal.known[number]["rows"]
        ]
        report.facts = {
            "codec": asdict(codec.identity),
            "recordings": len(recordings),
            "speakers": len({r.speaker for r in recordings if r.speaker}) or None,
            "seconds": sum(r["seconds"] for r in report.items if r["kind"] == ORIGINAL),
            "split": split if any(r.split for r in recordings) else None,
            "threads": torch.get_num_threads(),
            "chunk_frames": chunk_frames,
            "entropy_models": {
                way.sender.coder: way.sender.model.fingerprint
                for way in ways
                if way.sender.coder != RAW
            }
            or None,
            "fine_models": {
                way.family: way.receiver.fingerprint for way in ways if way.receiver.title
            }
            or None,
            **judge.names,
        }
        for note in [*notes, *failure_notes(report.items)]:
            report.note(note)
        run.fill_tables()
        for number in range(min(NUM_EXAMPLES, len(recordings))):
            run.show_example(number)
        found = report.save()
        journal.discard()
    return found


@dataclass
class _Run:
    """Recordings through every system, and what the report makes of the rows."""

    report: Report
    judge: RateJudge
    codec: CodecModel
    ways: Sequence[Way]
    programmes: Sequence[ProgramCodec]
    _senders: dict[str, Sender] = field(init=False)

    def __post_init__(self) -> None:
        self._senders = {way.sender.title: way.sender for way in self.ways}

    @property
    def rate(self) -> int:
        return self.codec.config.sampling_rate

    def warm_up(self, waveform: Tensor) -> None:
        """Send a second of sound each way."""
        start = waveform[: self.rate]
        streams = {title: sender.send(start) for title, sender in self._senders.items()}
        for way in self.ways:
            way.receiver.receive(streams[way.sender.title], way.sender.model)

    def measure(self, recording: Recording, waveform: Tensor, number: int) -> list[Row]:
        """Rows of one recording: the original, our ways, the programmes."""
        text = recording.text or ""
        seconds = len(waveform) / self.rate
        self.judge.begin()
        original = {"id": recording.id, "system": ORIGINAL, "kind": ORIGINAL, "seconds": seconds}
        rows = [original | self.judge.score(None, waveform, text, self.rate)]
        sounds: dict[str, Tensor] = {ORIGINAL: waveform}
        streams: dict[str, bytes] = {}
        costs: dict[str, Row] = {}
        codes: dict[int, NDArray[np.int64]] = {}
        for title, sender in self._senders.items():
            began = processor_seconds()
            streams[title] = sender.send(waveform)
            spent = processor_seconds() - began
            if sender.coder == RAW:  # the first one of each number of books
                pieces = read_codes(streams[title], sender.model)
                values = torch.cat([piece.codes for piece in pieces], 1).numpy()
                codes[sender.model.num_books] = values
            cost = _cost(sender, streams[title], codes[sender.model.num_books])
            costs[title] = cost | {"encode_seconds": spent}
        for way in self.ways:
            title = way.sender.title
            began = processor_seconds()
            sounds[way.name] = way.receiver.receive(streams[title], way.sender.model)
            spent = processor_seconds() - began
            if len(sounds[way.name]) != len(waveform):
                raise CorruptStream(
                    f"{way.name} played {len(sounds[way.name])} of {len(waveform)} samples of "
                    f"{recording.id}; the stream or its reader is wrong."
                )
            row: Row = {"id": recording.id, "system": way.name, "kind": way.kind}
            row |= {"num_books": way.sender.model.num_books, "seconds": seconds, "stream": title}
            row |= costs[title] | {"coded_seconds": seconds, "decode_seconds": spent}
            rows.append(row | self.judge.score(waveform, sounds[way.name], text, self.rate))
        for system in self.programmes:
            labels: Row = {"id": recording.id, "system": system.name, "kind": BASELINE}
            try:
                sent = system.send(waveform, self.rate)
            except (ConfigError, UnsupportedAudio) as error:
                rows.append(labels | {"failed": str(error)})
                continue
            sounds[system.name] = sent.waveform
            row = labels | {"seconds": seconds, "coded_seconds": sent.payload.seconds}
            row |= {"payload_bits": sent.payload.bits, "bits": sent.payload.bits}
            row["container_bits"] = 8 * sent.num_bytes - sent.payload.bits
            row |= {"encode_seconds": sent.encode_seconds, "decode_seconds": sent.decode_seconds}
            rows.append(row | self.judge.score(waveform, sent.waveform, text, self.rate))
        if number < NUM_EXAMPLES:
            self._keep_example(number, sounds, streams)
        return rows

    def fill_tables(self) -> None:
        """Tables and the picture, from the report's items."""
        items, tables = self.report.items, self.report.tables
        latencies = {way.name: way.sender.latency_seconds for way in self.ways}
        latencies |= {system.name: system.latency_seconds for system in self.programmes}
        tables["quality"] = quality_rows(items)
        tables["rate"] = rate_rows(items, latencies)
        tables["entropy_coding"] = coding_rows(items, RAW, STATIC)
        tables["differences"] = difference_rows(items, PEERS)
        for name in ("entropy_coding", "differences"):
            if not tables[name]:
                del tables[name]
        self.report.note(
            "bits_per_second is what is compared: ours with the whole container of a stream, other codecs' "
            "without theirs. Times are of the processor, by seconds of speech; those of programmes "
            "include their start."
        )
        families = {way.name: way.family for way in self.ways}
        families |= {system.name: system.family for system in self.programmes}
        curves: dict[str, list[Row]] = {}
        for row in tables["quality"]:
            if row["system"] in families:
                curves.setdefault(families[row["system"]], []).append(row)
        first = tables["quality"][0]  # the original's
        if any(row.get(name) is not None for name in PANELS for row in tables["quality"]):
            self.report.add_figure(
                "rate-quality.png",
                "Quality over bit rate, with 95 % intervals: ours with the container, others without",
                lambda path: save_rate_curves(path, curves, first),
            )

    def show_example(self, number: int) -> None:
        """Enter an example into the report, whichever call wrote its files."""
        names = [ORIGINAL, *(way.name for way in self.ways), *(p.name for p in self.programmes)]
        for name in names:
            if (self.report.folder / _example_name(number, name, "wav")).is_file():
                self.report.sounds[_example_name(number, name, "wav")] = (
                    f"{name}, example {number + 1}"
                )
        for title in self._senders:
            self.report.sounds[_example_name(number, title, "lmc")] = f"stream of {title}"

    def _keep_example(
        self, number: int, sounds: dict[str, Tensor], streams: dict[str, bytes]
    ) -> None:
        for path in self.report.folder.glob(f"example-{number + 1}-*"):
            path.unlink()  # of an older report in this folder
        for name, sound in sounds.items():
            path = self.report.folder / _example_name(number, name, "wav")
            write_audio(path, sound, self.rate)
        for title, data in streams.items():
            write_atomically(self.report.folder / _example_name(number, title, "lmc"), data)


def _cost(sender: Sender, data: bytes, codes: NDArray[np.int64]) -> Row:
    """Bits of a stream, and what its coder's model says of its codes `[K, T]`."""
    size = stream_size(data)
    bits_per_code = (sender.model.codebook_size - 1).bit_length()
    payload = sum(size.payload_bits)
    row: Row = {
        "coder": sender.coder,
        "frames": codes.shape[1],
        "raw_bits": codes.size * bits_per_code,
        "payload_bits": payload,
        "container_bits": 8 * size.num_bytes - payload,
        "bits": 8 * size.num_bytes,
        "chunks": len(size.payload_bits),
        "raw_chunks": size.num_raw_chunks,
        "model_bits": None,
    }
    if sender.coder != RAW:
        own = model_bits(codes, sender.model, sender.chunk_frames)
        pairs = list(zip(size.payload_bits, own, strict=True))
        row["model_bits"] = sum(own)
        row["most_over_model_bits"] = max(coded - bits for coded, bits in pairs)
        row["chunks_within"] = sum(
            coded <= (1 + MOST_OVER) * bits + MOST_OVER_BITS for coded, bits in pairs
        )
    return row


def _example_name(number: int, title: str, suffix: str) -> str:
    stem = re.sub(r"[^\w.]+", "-", title)
    return f"example-{number + 1}-{stem}.{suffix}"
