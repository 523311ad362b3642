"""Run records: runs that begin together have files of their own, and no file is ever empty."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.runner import run_records
from flows.runner.run_records import RunRecord


def test_runs_of_a_second_have_records_of_their_own_which_are_whole_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, empty = run_records.write_atomically, []

    def look_and_write(path: Path, content: bytes) -> None:
        empty.extend(file for file in tmp_path.glob("*.json") if not file.stat().st_size)
        write(path, content)

    monkeypatch.setattr(run_records, "write_atomically", look_and_write)
    started = datetime.now(UTC)
    with ThreadPoolExecutor(4) as pool:
        records = list(pool.map(lambda _: RunRecord(tmp_path, "nano", "nano", started), range(12)))
    assert empty == []
    assert len({record.identifier for record in records}) == 12
    for record in records:
        assert json.loads(record.path.read_bytes())["run"] == record.identifier
