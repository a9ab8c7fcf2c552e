"""The tables of a rate report, from the rows that each recording gave at each system.

A row holds labels (`id`, `system`, `kind`, `num_books`), `seconds` of the recording, `coded_seconds` that its
bits stand for, bits and processor time, scores, and what a recognizer made of it. A system that failed on a
recording has a row with `failed` in place of all that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .intervals import interval_columns, ratio_interval
from .metrics import mean
from .rate_scores import SCORES, undefined_notes
from .report import Row

ORIGINAL, SENT, GENERATED, BASELINE = "original", "sent", "generated", "baseline"
# A chunk may take this much more than -log2 p: rounded tables, a checksum, the end of the coder.
MOST_OVER, MOST_OVER_BITS = 0.01, 64


def rate_rows(items: Sequence[Row], latencies: Mapping[str, float | None]) -> list[Row]:
    """What each system takes: bits without and with entropy coding, container, processor time, delay."""
    rows = []
    for name, mine in _by_system(items).items():
        if mine[0]["kind"] == ORIGINAL:
            continue
        latency = latencies.get(name)
        seconds = sum(row["seconds"] for row in mine)
        row: Row = {**_labels(mine), "raw_bits_per_second": _rate(mine, "raw_bits")}
        row["payload_bits_per_second"] = _rate(mine, "payload_bits")
        row["container_bits_per_second"] = _rate(mine, "container_bits")
        row["total_bits_per_second"] = _rate(mine, "payload_bits", "container_bits")
        row["encode_rtf"] = sum(r["encode_seconds"] for r in mine) / seconds
        row["decode_rtf"] = sum(r["decode_seconds"] for r in mine) / seconds
        row["latency_ms"] = None if latency is None else 1000 * latency
        rows.append(row)
    return rows


def quality_rows(items: Sequence[Row]) -> list[Row]:
    """What each system keeps, with 95 % intervals over the recordings, at the bits that are compared."""
    systems = _by_system(items)
    originals = {row["id"]: row for row in items if row["kind"] == ORIGINAL}
    rows = []
    for mine in systems.values():
        row: Row = {**_labels(mine), "bits_per_second": _rate(mine, "bits")}
        is_original = row["kind"] == ORIGINAL
        bits = [] if is_original else [r["bits"] for r in mine]
        row |= interval_columns(
            "bits", bits, [] if is_original else [r["coded_seconds"] for r in mine]
        )
        for name in SCORES:
            values = [r[name] for r in mine if r.get(name) is not None]
            row[name] = mean(values)
            row |= interval_columns(name, values)
        counted = [r for r in mine if r.get("words")]
        if counted:
            errors, words = [r["errors"] for r in counted], [r["words"] for r in counted]
            true_errors = [originals[r["id"]]["errors"] for r in counted]
            row["wer"] = sum(errors) / sum(words)
            row |= interval_columns("wer", errors, words)
            change = row["wer"] - sum(true_errors) / sum(words)
            row["wer_change"] = None if is_original else change
        rows.append(row)
    return rows


def coding_rows(items: Sequence[Row], raw: str, static: str) -> list[Row]:
    """What each entropy coder saves against codes as they are and against a static table.

    Args:
        items: Rows; those of what is played as it was sent are taken, each stream once.
        raw: Name of the coder that packs codes as they are.
        static: Name of the coder that is the static table.

    Returns:
        A row a coder and number of books: bits a frame; shares saved of the codes' bits, and of the whole
        stream's, with 95 % intervals over the recordings; and the bits beside the model's own -log2 p.
    """
    sent = {n: rows for n, rows in _by_system(items).items() if rows[0]["kind"] == SENT}
    streams: dict[int, dict[str, float]] = {}  # by books and id, bits of the whole raw stream
    tables: dict[int, dict[str, float]] = {}  # likewise, bits of the codes behind the static table
    for rows in sent.values():
        books, coder = rows[0]["num_books"], rows[0]["coder"]
        if coder == raw:
            streams[books] = {row["id"]: row["bits"] for row in rows}
        elif coder.startswith(static) and books not in tables:
            tables[books] = {row["id"]: row["payload_bits"] for row in rows}
    found = []
    for mine in sent.values():
        if mine[0]["model_bits"] is None:
            continue
        frames, chunks = (sum(r[name] for r in mine) for name in ("frames", "chunks"))
        payload, model = [r["payload_bits"] for r in mine], sum(r["model_bits"] for r in mine)
        row: Row = {"coder": mine[0]["coder"], "num_books": mine[0]["num_books"]}
        row["recordings"] = len(mine)
        for name in ("raw_bits", "payload_bits", "model_bits"):
            row[f"{name}_per_frame"] = sum(r[name] for r in mine) / frames
        row |= _saved("raw", payload, [r["raw_bits"] for r in mine])
        table = {} if mine[0]["coder"].startswith(static) else tables.get(row["num_books"], {})
        row |= _saved("static", payload, [table[r["id"]] for r in mine] if table else [])
        whole = [streams[row["num_books"]][r["id"]] for r in mine]
        row |= _saved("raw_stream", [r["bits"] for r in mine], whole)
        row["over_model_percent"] = 100 * (sum(payload) / model - 1)
        row["over_model_bits_per_chunk"] = (sum(payload) - model) / chunks
        row["most_over_model_bits"] = max(r["most_over_model_bits"] for r in mine)
        row["chunks"] = chunks
        row["chunks_within"] = sum(r["chunks_within"] for r in mine)
        row["raw_chunks"] = sum(r["raw_chunks"] for r in mine)
        found.append(row)
    return found


def difference_rows(items: Sequence[Row], peers: Sequence[str] = ()) -> list[Row]:
    """How much better one system scores than another one, recording by recording, with 95 % intervals.

    Args:
        items: Rows.
        peers: Systems beside which ours are set, as far as there are rows of them.

    Returns:
        Rows of base books alone against the peers, and of generated books against the same stream played
        alone and against the peers; differences are taken on the recordings that both have.
    """
    systems = _by_system(items)
    ours = [name for name, rows in systems.items() if rows[0]["kind"] == SENT][:1]
    pairs = [(name, None) for name in ours]
    pairs += [(n, rows[0]["stream"]) for n, rows in systems.items() if rows[0]["kind"] == GENERATED]
    found = []
    for name, stream in pairs:
        for other in ([stream] if stream else []) + [peer for peer in peers if peer in systems]:
            found.append(_difference(name, systems[name], other, systems[other]))
    return found


def _difference(name: str, rows: Sequence[Row], other: str, others: Sequence[Row]) -> Row:
    by_id = {row["id"]: row for row in others}
    both = [(row, by_id[row["id"]]) for row in rows if row["id"] in by_id]
    found: Row = {"system": name, "against": other, "recordings": len(both)}
    for score in SCORES:
        known = [(a.get(score), b.get(score)) for a, b in both]
        changes = [a - b for a, b in known if a is not None and b is not None]
        found[f"{score}_change"] = mean(changes)
        found |= interval_columns(score, changes)
    counted = [(a, b) for a, b in both if a.get("words")]
    if counted:
        changes = [a["errors"] - b["errors"] for a, b in counted]
        words = [a["words"] for a, _ in counted]
        found["wer_change"] = sum(changes) / sum(words)
        found |= interval_columns("wer", changes, words)
    return found


def failure_notes(items: Sequence[Row]) -> list[str]:
    """A sentence for each system that failed somewhere, and for each score that was undefined somewhere."""
    failed: dict[str, list[Row]] = {}
    for row in items:
        if "failed" in row:
            failed.setdefault(row["system"], []).append(row)
    notes = [
        f"{name} failed on {len(rows)} recordings; on {rows[0]['id']}: {rows[0]['failed']}"
        for name, rows in failed.items()
    ]
    judged = [row for rows in _by_system(items).values() for row in rows]
    return notes + undefined_notes(judged)


def _by_system(items: Sequence[Row]) -> dict[str, list[Row]]:
    systems: dict[str, list[Row]] = {}
    for row in items:
        if "failed" not in row:
            systems.setdefault(row["system"], []).append(row)
    return systems


def _labels(rows: Sequence[Row]) -> Row:
    labels = {name: rows[0].get(name) for name in ("system", "kind", "num_books")}
    return {**labels, "recordings": len(rows)}


def _rate(rows: Sequence[Row], *names: str) -> float | None:
    """Bits of all rows by the seconds that they stand for; None where they are not known."""
    if any(row.get(name) is None for row in rows for name in names):
        return None
    seconds = sum(row["coded_seconds"] for row in rows)
    return sum(row[name] for row in rows for name in names) / seconds if seconds else None


def _saved(name: str, bits: Sequence[float], of: Sequence[float]) -> Row:
    """Per cent of one kind of bits that another one saves, with its interval; None without any."""
    low, high = (of and ratio_interval(bits, of)) or (None, None)
    return {
        f"saved_of_{name}_percent": 100 * (1 - sum(bits) / sum(of)) if of else None,
        f"saved_of_{name}_low": None if high is None else 100 * (1 - high),
        f"saved_of_{name}_high": None if low is None else 100 * (1 - low),
    }
