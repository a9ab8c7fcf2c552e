"""The hour over a link tells drift from a machine that stood still."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from speechlm.benchmarks.hour_link import rows_of_logs


@pytest.mark.parametrize(("drift_ppm", "gained_ms"), [(0, 0), (100, 18)])
def test_what_holds_up_both_ends_is_no_drift(
    drift_ppm: float, gained_ms: float, tmp_path: Path
) -> None:
    heard, sent = [], []
    for second in range(1, 181):
        at = second + 1000 + 30 * (second > 100)  # all stood still for half a minute
        here = {"at": at, "seconds": second, "memory_mib": 400 + second}
        sent.append({**here, "place_seconds": second})
        place = second * (1 - drift_ppm * 1e-6) - 0.15
        heard.append({**here, "place_seconds": place, "statistics": {"received": 25 * second}})
    for name, lines in (("receive", heard), ("send", sent)):
        lines.append({"at": 2000, "statistics": {}, "memory_mib": 1})  # the summary at the end
        text = "\n".join(map(json.dumps, lines))
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    rows = rows_of_logs(tmp_path, every=1)
    assert [row["minutes"] for row in rows] == pytest.approx([0.02, 1, 2, 3])
    assert [row["received"] for row in rows] == [25, 1500, 3000, 4500]
    assert rows[0]["behind_ms"] == 150
    assert rows[-1]["behind_ms"] - rows[0]["behind_ms"] == pytest.approx(gained_ms, abs=1)
    assert rows[-1]["receiver_mib"] == rows[-1]["sender_mib"] == 580
