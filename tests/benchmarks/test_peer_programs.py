"""Programs of the peers: each one that a benchmark names lies in ``peers/``."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.curate.extraction.peer_extractors import _PROGRAMS
from benchmarks.curate.rows.rows_read import PEERS as ROW_READERS
from benchmarks.orchestrate import TOOLS
from benchmarks.peer_programs import PEERS

_CALLED = re.compile(r'(?:run_peer|peer_program)\(\s*"(\w+)"')


def test_every_named_program_is_a_file() -> None:
    sources = [path.read_text() for path in Path(PEERS).parent.rglob("*.py")]
    called = {name for text in sources for name in _CALLED.findall(text)}
    named = called | {tool.program for tool in TOOLS} | {row[0] for row in _PROGRAMS.values()}
    named |= set(ROW_READERS.values())
    programs = {path.stem for path in PEERS.rglob("*.py")} - {"__init__"}
    assert len(called) >= 5
    assert named == programs
