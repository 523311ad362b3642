"""The chain finds what was edited, taken out, moved or cut off; a kill leaves no half entry."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from components.core.errors import DataError
from components.core.settings import Settings
from components.core.store.artifact import canonical_json, digest_value
from components.publish.promotion import audit_log


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", reference_data=tmp_path)


def filled(settings: Settings, count: int = 5) -> list[bytes]:
    settings.home.mkdir(exist_ok=True)
    for number in range(count):
        audit_log.append_entry(
            settings, "promoted", model="tiny", version=number, why="ünïcode\nline"
        )
    return audit_log.log_path(settings).read_bytes().splitlines(keepends=True)


def test_entries_follow_each_other(settings: Settings) -> None:
    assert audit_log.read_entries(settings) == []
    filled(settings)
    entries = audit_log.read_entries(settings)
    assert [entry.sequence for entry in entries] == [1, 2, 3, 4, 5]
    assert entries[0].previous == audit_log.NO_PREVIOUS
    assert [e.previous for e in entries[1:]] == [e.sha256 for e in entries[:-1]]
    assert entries[2].facts == {"model": "tiny", "version": 2, "why": "ünïcode\nline"}
    assert entries[0].who == audit_log.current_user()
    assert entries[0].time.endswith("+00:00")
    audit_log.check_end(settings)


def test_secrets_stay_out(settings: Settings) -> None:
    settings.home.mkdir()
    audit_log.append_entry(
        settings, "promoted", why="see https://me:hunter2@host/x with token=abcdef"
    )
    assert b"hunter2" not in audit_log.log_path(settings).read_bytes()
    assert b"abcdef" not in audit_log.log_path(settings).read_bytes()


def edited(lines: list[bytes]) -> list[bytes]:
    return [line.replace(b'"version":2', b'"version":9') for line in lines]


def spaced(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1], lines[2].replace(b'"event":', b'"event": '), *lines[3:]]


def rehashed(lines: list[bytes]) -> list[bytes]:
    """A forger who also makes the entry's own hash right."""
    content = json.loads(lines[2])
    content["facts"]["version"] = 9
    content.pop("sha256")
    line = canonical_json(content | {"sha256": digest_value(content)}) + b"\n"
    return [*lines[:2], line, *lines[3:]]


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (edited, "entry 3 was edited"),
        (spaced, "entry 3 was edited"),
        (rehashed, "entry 4 does not follow entry 3"),
        (lambda lines: [*lines[:2], *lines[3:]], "entry 3 is missing: entry 4 is in its line"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "entry 2 is missing: entry 3"),
        (lambda lines: [*lines[:2], b"\n", *lines[3:]], "line 3 is no entry"),
        (lambda lines: [*lines[:2], b"[1]\n", *lines[3:]], "line 3 is no entry"),
        (lambda lines: lines[1:], "entry 1 is missing: entry 2 is in its line"),
        (lambda lines: lines[:-1], "entry 5 is missing"),
        (lambda lines: [*lines[:-1], lines[-1][:-9]], "entry 5 is missing"),
        (lambda lines: [], "entry 1 is missing"),
    ],
)
def test_what_was_done_to_it_is_named(
    settings: Settings, harm: Callable[[list[bytes]], list[bytes]], named: str
) -> None:
    lines = filled(settings)
    audit_log.log_path(settings).write_bytes(b"".join(harm(lines)))
    with pytest.raises(DataError, match=named):
        audit_log.read_entries(settings)


def test_a_log_whose_end_was_changed_takes_no_entry(settings: Settings) -> None:
    lines = filled(settings)
    for content in (lines[:-1], [*lines[:-1], edited(lines)[2]], [*lines, *lines]):
        audit_log.log_path(settings).write_bytes(b"".join(content))
        for refuse in (
            audit_log.check_end,
            lambda given: audit_log.append_entry(given, "promoted"),
        ):
            with pytest.raises(DataError, match=r"audit\.jsonl"):
                refuse(settings)
        assert audit_log.log_path(settings).read_bytes() == b"".join(content)


def test_a_head_that_was_changed_is_found(settings: Settings) -> None:
    filled(settings)
    head = settings.home / "audit.head.json"
    good = head.read_bytes()
    for content in (b"", b"{}", good.replace(b":5", b":3"), good.replace(b":5", b":x")):
        head.write_bytes(content)
        with pytest.raises(DataError, match=r"audit\.head\.json"):
            audit_log.read_entries(settings)
    head.unlink()
    with pytest.raises(DataError, match="is gone"):
        audit_log.read_entries(settings)


@pytest.mark.parametrize("left", [b"{", b'{"event":"promoted"', b"\0" * 64, b"whole"])
def test_half_a_line_is_no_entry_and_is_cut_off_and_told(
    settings: Settings, left: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    lines = filled(settings, 2)
    # Even a whole entry is none before its line has ended.
    torn = lines[1][:-1] if left == b"whole" else left
    with audit_log.log_path(settings).open("ab") as file:
        file.write(torn)
    assert len(audit_log.read_entries(settings)) == 2
    assert "which is no entry" in caplog.text
    audit_log.append_entry(settings, "promoted", version=3)
    entries = audit_log.read_entries(settings)
    assert [entry.event for entry in entries[2:]] == [audit_log.MENDED, "promoted"]
    assert entries[2].facts == {"bytes": len(torn)}
    assert "cut off" in caplog.text


def test_killed_between_entry_and_head_goes_on(settings: Settings) -> None:
    filled(settings, 2)
    head = settings.home / "audit.head.json"
    before = head.read_bytes()
    audit_log.append_entry(settings, "promoted")
    head.write_bytes(before)
    assert len(audit_log.read_entries(settings)) == 3
    audit_log.append_entry(settings, "promoted")
    assert len(audit_log.read_entries(settings)) == 4


def test_the_first_entry_may_be_without_a_head(settings: Settings) -> None:
    filled(settings, 1)
    (settings.home / "audit.head.json").unlink()
    audit_log.append_entry(settings, "promoted")
    assert len(audit_log.read_entries(settings)) == 2


def test_once_is_once(settings: Settings) -> None:
    settings.home.mkdir()
    for _ in range(3):
        audit_log.append_entry_once(settings, "abc", "promoted", version=1)
    assert [entry.facts for entry in audit_log.read_entries(settings)] == [
        {"token": "abc", "version": 1}
    ]


def add_many(settings: Settings) -> None:
    for number in range(20):
        audit_log.append_entry(settings, "promoted", number=number)


def test_processes_take_turns(settings: Settings) -> None:
    settings.home.mkdir()
    spawn = multiprocessing.get_context("fork")
    writers = [spawn.Process(target=add_many, args=(settings,)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(audit_log.read_entries(settings)) == 60
