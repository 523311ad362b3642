"""An error as one line, whoever made it."""

from __future__ import annotations

import pytest

from components.core.errors import error_line, typed_error_line


@pytest.mark.parametrize(
    ("error", "line", "typed"),
    [
        (ValueError("two\n  lines\tand a tab"), "two lines and a tab", "ValueError: two lines and"),
        (KeyError("shape"), "'shape'", "KeyError: 'shape'"),
        (RuntimeError(), "RuntimeError", "RuntimeError"),
        (OSError("https://me:word@host/ failed"), "https://***@host/ failed", "OSError: https://*"),
    ],
)
def test_one_line(error: Exception, line: str, typed: str) -> None:
    assert error_line(error) == line
    assert typed_error_line(error).startswith(typed)
