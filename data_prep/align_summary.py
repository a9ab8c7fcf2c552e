"""What aligning finds about the rows of a shard, kept beside it, and what a whole run amounts to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .output import counted
from .receipts import ShardReceipt
from .token_rows import TokenRow

POOR = "poor match"  # kind of the rows whose margin is not believed
UNALIGNED_NAME = "unaligned.jsonl"
SUMMARY_NAME = "alignment.json"
NOTES = "alignment"


@dataclass
class ShardNotes:
    """What was found about the rows of one shard.

    Attributes:
        source: Of what it was found, and with what settings.
        kept: Rows that keep their durations.
        aligned: Rows that got some.
        margins: Of the alignments tried.
        unaligned: Rows without durations, with the reason.
    """

    source: str
    kept: int = 0
    aligned: int = 0
    margins: list[float] = field(default_factory=list)
    unaligned: list[dict[str, str]] = field(default_factory=list)

    def refuse(self, row: TokenRow, kind: str, reason: str) -> None:
        """Note that a row stays without durations."""
        self.unaligned.append({"id": row.id, "kind": kind, "reason": reason})


@dataclass(frozen=True)
class AlignSummary:
    """What `align_shards` did.

    Attributes:
        folder: The new dataset.
        shards: Shards in it.
        skipped: How many of them were whole already.
        rows: Utterances in it.
        aligned: Utterances that got durations.
        kept: Utterances that had durations and keep them.
        unaligned: Utterances without durations by the kind of reason; `unaligned.jsonl` lists them.
        margins: float32 `[n]`, the margin of every alignment tried: nats a frame by which a row's own
            text explains the codes better than the best of `NUM_OTHERS` texts of other rows.
        wall_seconds: Time that the run took.
    """

    folder: Path
    shards: int
    skipped: int
    rows: int
    aligned: int
    kept: int
    unaligned: dict[str, int]
    margins: NDArray[np.float32]
    wall_seconds: float

    @classmethod
    def of(
        cls,
        folder: Path,
        receipts: Sequence[ShardReceipt],
        notes: Sequence[ShardNotes],
        skipped: int,
        wall_seconds: float,
    ) -> Self:
        """Sum up the shards of a run."""
        kinds = Counter(entry["kind"] for found in notes for entry in found.unaligned)
        return cls(
            folder=folder,
            shards=len(receipts),
            skipped=skipped,
            rows=sum(receipt.rows for receipt in receipts),
            aligned=sum(found.aligned for found in notes),
            kept=sum(found.kept for found in notes),
            unaligned=dict(sorted(kinds.items())),
            margins=np.array([m for found in notes for m in found.margins], dtype=np.float32),
            wall_seconds=wall_seconds,
        )

    @property
    def is_suspicious(self) -> bool:
        """Whether most alignments tried were not believed, so that the others passed by chance."""
        return 2 * self.unaligned.get(POOR, 0) > len(self.margins)

    def figures(self) -> dict[str, Any]:
        """The figures of `alignment.json`: counts, and percentiles of the margin."""
        points = (1, 5, 25, 50, 75, 95, 99) if len(self.margins) else ()
        return {
            "rows": self.rows,
            "aligned": self.aligned,
            "kept": self.kept,
            "unaligned": self.unaligned,
            "suspicious": self.is_suspicious,
            "margin_percentiles": {
                str(point): round(float(np.percentile(self.margins, point)), 3) for point in points
            },
        }

    def table(self) -> str:
        """A few lines for people, with a histogram of the margin."""
        lines = [
            f"{counted(self.rows, 'utterance')} in {counted(self.shards, 'shard')} "
            f"({self.skipped} whole already): "
            f"{self.aligned} aligned, {self.kept} had durations"
        ]
        for kind, count in self.unaligned.items():
            lines.append(f"without durations, {kind}: {count}; see {UNALIGNED_NAME}")
        if len(self.margins):
            counts, edges = np.histogram(self.margins, bins=10)
            lines.append("margin of the own text over others, nats a frame")
            for count, low, high in zip(counts, edges, edges[1:], strict=False):
                bar = "#" * int(np.ceil(40 * count / counts.max()))
                lines.append(f"{low:7.2f} to {high:5.2f} {count:7d} {bar}".rstrip())
        lines.append(f"took {self.wall_seconds:.1f} s")
        if self.is_suspicious:
            lines.append(
                f"WARNING: do not train on this. {self.unaligned[POOR]} of {len(self.margins)} utterances "
                f"fit their own text hardly better than others (median margin "
                f"{float(np.median(self.margins)):.2f}), so the {self.aligned} that passed did so by "
                "chance: the aligner has not learned such speech, or the transcripts are of other "
                "recordings. Train it longer or on more of this speech, and align again."
            )
        return "\n".join(lines)


def clear_notes(out: Path, wanted: set[str]) -> None:
    """Remove what a killed run was writing into `out`, and notes on shards that the dataset will not have."""
    for name in (UNALIGNED_NAME, SUMMARY_NAME):
        for path in out.glob(f".{name}.*"):
            path.unlink()
    for path in (out / NOTES).iterdir():
        if path.name not in wanted:
            path.unlink()


def read_notes(path: Path, source: str) -> ShardNotes | None:
    """The notes on a finished shard; None where they are missing, damaged or of another run."""
    try:
        notes = ShardNotes(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return notes if notes.source == source else None
