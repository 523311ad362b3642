"""The stage that ``CONTRIBUTING.md`` shows, run as it stands there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from pydantic import Field

from components.core.stats.figures import exact_figure
from components.core.stats.report_config import ReportConfig
from components.core.store.artifact import Corpus, Report
from components.core.store.shards import read_shards
from components.core.store.workdir import Workdir
from tests.docs.code_blocks import code_blocks

IMPORTS = (ClassVar, Corpus, Field, Report, ReportConfig, Workdir, exact_figure, read_shards)
"""Names that the block uses: its imports are left out on the page."""


@pytest.fixture
def shown() -> dict[str, Any]:
    """The names that the page's Python defines."""
    (block,) = [block for block in code_blocks("python") if block.page == "CONTRIBUTING.md"]
    names: dict[str, Any] = {
        str(getattr(each, "__name__", None) or each).rpartition(".")[2]: each for each in IMPORTS
    }
    exec(compile(block.text, str(block), "exec", dont_inherit=True), names)
    return names


def test_the_stage_counts_words(
    shown: dict[str, Any],
    corpus_of: Callable[..., Corpus],
    again: Callable[[], Workdir],
) -> None:
    corpus, work = corpus_of(["one two three", "one"]), again()
    report = shown["count_words"](shown["CountConfig"](at_least=2), corpus, work)
    assert report.stats["words"] == 3
    written = json.loads((work.artifact_folder(report) / "report.json").read_bytes())
    assert [figure["name"] for figure in written["figures"]] == ["words"]
