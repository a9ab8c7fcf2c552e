"""The tables of a speech report, from the rows that each spoken sentence gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .faults import FAULTS, HEARD_FAULTS
from .intervals import ratio_interval
from .metrics import mean
from .report import Row
from .scorers import word_errors

MODEL, TRUTH, COPY = "model", "ground truth", "codec copy"
SYSTEMS = (MODEL, TRUTH, COPY)


def system_rows(items: Sequence[Row]) -> list[Row]:
    """One row a system, and a protocol where the list has several: words, voices, lengths."""
    lengths = {row["item"]: row["spoken_seconds"] for row in items if row["system"] == TRUTH}
    return [
        {**labels, **_summary(rows, lengths)}
        for labels, rows in _groups(items, "protocol", SYSTEMS)
    ]


def fault_rows(items: Sequence[Row]) -> list[Row]:
    """One row a system and protocol: how many sentences have which fault.

    `runs_percent` is the share with three or more words in a row inserted or dropped, among
    those that a recognizer has heard.
    """
    return [
        {**labels, **_fault_counts(rows)} for labels, rows in _groups(items, "protocol", SYSTEMS)
    ]


def kind_rows(items: Sequence[Row]) -> list[Row]:
    """One row a kind of sentences and a system; empty where the list names no kinds."""
    kinds = dict.fromkeys(row["kind"] for row in items if row.get("kind"))
    rows = []
    for kind in kinds:
        for system in SYSTEMS:
            mine = [r for r in items if r.get("kind") == kind and r["system"] == system]
            if mine:
                score = word_errors([r["text"] for r in mine], [r["heard"] for r in mine])
                labels: Row = {"kind": kind, "system": system, "sentences": len(mine)}
                labels["wer"] = None if score is None else score.word_error_rate
                labels["with_a_fault"] = sum(bool(r["faults"]) for r in mine)
                rows.append({**labels, **_fault_counts(mine, only_found=True)})
    return rows


def _groups(items: Sequence[Row], key: str, systems: Sequence[str]) -> list[tuple[Row, list[Row]]]:
    """Rows by the values of a key, if there are several, and by system."""
    values = list(dict.fromkeys(row.get(key) or "" for row in items))
    groups = []
    for value in values:
        for system in systems:
            mine = [r for r in items if (r.get(key) or "") == value and r["system"] == system]
            if mine:
                labels: Row = {"system": system}
                groups.append((labels | ({key: value} if len(values) > 1 else {}), mine))
    return groups


def _summary(rows: Sequence[Row], lengths: Mapping[int, float]) -> Row:
    summary: Row = {"sentences": len(rows)}
    score = word_errors([row["text"] for row in rows], [row["heard"] for row in rows])
    if score is not None:
        counted = [row for row in rows if row["errors"] is not None]
        summary["wer"] = score.word_error_rate
        summary |= _interval(
            "wer", [row["errors"] for row in counted], [row["words"] for row in counted]
        )
        summary["cer"] = score.character_error_rate
        summary |= {"deleted_words": score.deletions, "inserted_words": score.insertions}
    similar = [row["similarity"] for row in rows]
    summary["similarity_to_prompt"] = mean(similar)
    summary |= _interval("similarity", [value for value in similar if value is not None])
    summary["similarity_to_other_prompts"] = mean([row["similarity_to_other"] for row in rows])
    nearest = [row["is_nearest"] for row in rows if row["is_nearest"] is not None]
    summary["nearest_own_prompt"] = sum(nearest) / len(nearest) if nearest else None
    summary["mos"] = mean([row["mos"] for row in rows])
    summary["seconds"] = sum(row["seconds"] for row in rows)
    ratios = [
        row["spoken_seconds"] / lengths[row["item"]]
        for row in rows
        if lengths.get(row["item"]) and row["spoken_seconds"]
    ]
    summary["duration_ratio"] = mean([*ratios])
    summary["duration_error"] = mean([abs(ratio - 1) for ratio in ratios])
    return summary


def _interval(name: str, values: Sequence[float], per: Sequence[float] | None = None) -> Row:
    found = ratio_interval(values, per)
    return {} if found is None else {f"{name}_low": found[0], f"{name}_high": found[1]}


def _fault_counts(rows: Sequence[Row], only_found: bool = False) -> Row:
    counts: dict[str, Any] = {}
    if not only_found:
        counts["sentences"] = len(rows)
    heard = [row for row in rows if row["heard"] is not None]
    for name in FAULTS:
        number = sum(name in row["faults"] for row in rows)
        if number or not only_found:
            counts[name] = number if heard or name not in HEARD_FAULTS else None
    if heard and not only_found:
        with_runs = sum(bool({"loop", "skip"} & set(row["faults"])) for row in heard)
        counts["runs_percent"] = 100 * with_runs / len(heard)
    return counts
