"""The tables of a loss report, from the rows of each recording, way, loss and seed.

A recording counts by the mean of its seeds; intervals are over recordings, which are what differs most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from .intervals import interval_columns
from .loss_ways import AMR_WB, OPUS, OURS
from .metrics import mean
from .rate_scores import SCORES
from .report import Row

ORIGINAL, ALONE = "original", "codec without a link"
NO_LOSS = "0"
MODEL, BASELINES = "model", ("repeat", "silence")


def quality_rows(items: Sequence[Row]) -> list[Row]:
    """What each way keeps at each loss, at what rates and delay, with 95 % intervals over the recordings."""
    rows = []
    for (loss, system), mine in _grouped(items).items():
        row: Row = {"loss": loss, "system": system, "recordings": len(_ids(mine))}
        row |= {name: mine[0].get(name) for name in ("latency_ms",)}
        for name in ("payload_bits_per_second", "total_bits_per_second"):
            row[name] = _rate(mine, name)
        for name in SCORES:
            values = list(_means(mine, name).values())
            row[name] = _mean(values)
            row |= interval_columns(name, values)
        row["wer"] = _word_errors(mine)
        rows.append(row)
    return rows


def link_rows(items: Sequence[Row]) -> list[Row]:
    """What became of our packets, frames and fine codes, in per cent."""
    rows = []
    for (loss, system), mine in _grouped(items).items():
        if mine[0].get("played") is None:
            continue
        row: Row = {"loss": loss, "system": system}
        row["packets_lost_percent"] = _share(mine, "packets_lost", "packets_sent")
        for name in ("repaired", "concealed", "partial"):
            row[f"frames_{name}_percent"] = _share(mine, name, "played")
        row["fine_codes_used_percent"] = _share(mine, "fine_used", "fine_received")
        rows.append(row)
    return rows


def fall_rows(items: Sequence[Row], losses: Sequence[str]) -> list[Row]:
    """How far each way falls from no loss to each share of loss, and whether it falls all the way.

    Args:
        items: Rows.
        losses: Names of losses; those that are shares are taken, in rising order.
    """
    shares = sorted((loss for loss in losses if is_share(loss)), key=float)
    rows = []
    for system in dict.fromkeys(row["system"] for row in items):
        by_loss = {loss: mine for (loss, name), mine in _grouped(items).items() if name == system}
        there = [loss for loss in shares if loss in by_loss]
        if len(there) < 2 or float(there[0]) != 0:
            continue
        row: Row = {"system": system}
        for score in ("pesq", "plcmos"):
            values = [_mean(_means(by_loss[loss], score).values()) for loss in there]
            known = [value for value in values if value is not None]
            for loss, value in zip(there[1:], values[1:], strict=True):
                first = values[0]
                fall = None if first is None or value is None else first - value
                row[f"{score}_fall_at_{loss}"] = fall
            falls = all(a >= b for a, b in pairwise(known))
            row[f"{score}_falls_always"] = falls if len(known) > 1 else None
        rows.append(row)
    return rows


def difference_rows(items: Sequence[Row]) -> list[Row]:
    """How much better ours with the model is, recording by recording, with 95 % intervals.

    Against repetition and silence in the same packets; against fine codes that hang on frames around; without
    loss, against the codec alone; and against the best by PLCMOS of other codecs whose latency is not above
    ours: Opus with FEC, Opus without, and AMR-WB.
    """
    groups = _grouped(items)
    rows = []
    for (loss, system), mine in groups.items():
        first = mine[0]
        if first["kind"] != OURS or first.get("concealment") != MODEL or first["is_hung"]:
            continue
        at_loss = {name: others for (at, name), others in groups.items() if at == loss}

        def same_packets(other: Row, first: Row = first) -> bool:
            is_other = other.get("concealment") in BASELINES or other.get("is_hung", False)
            return bool(other["kind"] == OURS and other["profile"] == first["profile"] and is_other)

        against = [name for name, others in at_loss.items() if same_packets(others[0])]
        if loss == NO_LOSS and ALONE in at_loss:
            against.insert(0, ALONE)
        for wanted in (_opus_with(True), _opus_with(False), lambda row: row["kind"] == AMR_WB):
            against += _best(at_loss, wanted, first["latency_ms"])
        for name in against:
            others = at_loss[name]
            row: Row = {"loss": loss, "system": system, "against": name}
            for side, each in (("", mine), ("against_", others)):
                row[f"{side}total_bits_per_second"] = _rate(each, "total_bits_per_second")
            for score in SCORES:
                ours, theirs = _means(mine, score), _means(others, score)
                changes = [ours[key] - theirs[key] for key in ours if key in theirs]
                row[f"{score}_change"] = _mean(changes)
                row |= interval_columns(score, changes)
            rows.append(row)
    return rows


def exactness_rows(items: Sequence[Row]) -> list[Row]:
    """Without loss: codes that came out of the packets otherwise, and the distance from the codec's sound."""
    rows = []
    for (loss, system), mine in _grouped(items).items():
        if loss == NO_LOSS and mine[0].get("differing_codes") is not None:
            row: Row = {"system": system, "codes": sum(r["codes"] for r in mine)}
            row["differing_codes"] = sum(r["differing_codes"] for r in mine)
            row["waveform_difference"] = max(r["waveform_difference"] for r in mine)
            rows.append(row)
    return rows


def is_share(loss: str) -> bool:
    """Whether a loss is named by a share alone."""
    try:
        float(loss)
    except ValueError:
        return False
    return True


def _opus_with(has_copies: bool) -> Callable[[Row], bool]:
    return lambda row: row["kind"] == OPUS and row["has_copies"] == has_copies


def _best(
    systems: dict[str, list[Row]], wanted: Callable[[Row], bool], latency_ms: float
) -> list[str]:
    """The name of the wanted way with the highest PLCMOS among those not above a latency, if there is one."""
    found: dict[str, float] = {}
    for name, rows in systems.items():
        if wanted(rows[0]) and rows[0]["latency_ms"] <= latency_ms:
            score = _mean(_means(rows, "plcmos").values())
            found[name] = -1.0 if score is None else score
    return [max(found, key=lambda name: found[name])] if found else []


def _grouped(items: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows by loss and way, losses in the order of their first row."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in items:
        found.setdefault((row["loss"], row["system"]), []).append(row)
    places = {loss: place for place, loss in enumerate(dict.fromkeys(loss for loss, _ in found))}
    return dict(sorted(found.items(), key=lambda pair: places[pair[0][0]]))


def _ids(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["id"] for row in rows))


def _means(rows: Sequence[Row], score: str) -> dict[str, float]:
    """Mean over the seeds of each recording that has the score."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row.get(score) is not None:
            values.setdefault(row["id"], []).append(row[score])
    return {name: sum(each) / len(each) for name, each in values.items()}


def _mean(values: Iterable[float]) -> float | None:
    return mean(list(values))


def _rate(rows: Sequence[Row], name: str) -> float | None:
    """Bits of all recordings by their seconds."""
    known = {row["id"]: row for row in rows if row.get(name) is not None}
    seconds = sum(row["seconds"] for row in known.values())
    bits = sum(row[name] * row["seconds"] for row in known.values())
    return bits / seconds if seconds else None


def _share(rows: Sequence[Row], name: str, of: str) -> float | None:
    total = sum(row[of] for row in rows)
    return 100 * sum(row[name] for row in rows) / total if total else None


def _word_errors(rows: Sequence[Row]) -> float | None:
    counted = [row for row in rows if row.get("words")]
    words = sum(row["words"] for row in counted)
    return sum(row["errors"] for row in counted) / words if words else None
