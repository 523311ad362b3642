"""Usage errors of ``modelmill bench``: a line that names what was typed and the way on."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import app
from components.core.errors import ConfigError


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "bench: no benchmark is named; there are orchestrate, curate, serve, train"),
        (["nope"], "bench nope: no such benchmark; there are orchestrate"),
        (["train", "a.json"], "bench train a.json: files of reports are given with --write PAGE"),
        (["orchestrate", "--only", "x"], "--only names a part of curate, serve, train"),
        (["curate", "--only", "nope"], "nope"),
        (["--write", "page.md"], "bench --write: name the files"),
    ],
)
def test_a_wrong_command_line_is_one_line(words: list[str], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        app(words, standalone_mode=False)
