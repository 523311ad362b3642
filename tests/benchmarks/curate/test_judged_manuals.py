"""Spans of manuals judged by hand: what is no personal data is left, what is someone's is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.pii.judged_manuals import measure_manuals, read_judged_spans
from components.core.settings import Settings

ACCEPTED = {"b'keepalive@openssh.com"}
"""A request of SSH: the form is a mailbox's."""


@pytest.mark.parametrize("kind", ["ip", "phone", "card", "national_id", "secret", "email", "login"])
def test_look_alikes_of_manuals_are_left(kind: str) -> None:
    spans = [span for span in read_judged_spans() if (span.kind, span.verdict) == (kind, "not")]
    assert {span.value for span in spans if span.is_found()} <= ACCEPTED


@pytest.mark.parametrize("kind", ["ip", "phone", "secret", "email"])
def test_what_is_someones_is_found(kind: str) -> None:
    spans = [span for span in read_judged_spans() if (span.kind, span.verdict) == (kind, "person")]
    assert spans
    assert [span.value for span in spans if not span.is_found()] == []


def test_the_figures_hold_their_targets(tmp_path: Path) -> None:
    setting = BenchSetting(Settings(tmp_path, tmp_path), tmp_path, 1, lambda line: None)
    of_kind, someones, recall = measure_manuals(setting)
    assert (of_kind.holds, someones.holds, recall.holds) == (True, None, True)
    assert someones.value is not None
    assert someones.value > 0.85
