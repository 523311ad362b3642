from __future__ import annotations

from pathlib import Path

from benchmarks.bench_setting import BenchSetting
from benchmarks.serve.held_schemas import SchemasSetup, judge_answer, measure_held_schemas
from benchmarks.serve.load_generator import StreamRecord
from components.core.settings import load_settings
from models.shape_presets import NANO


def test_answers_of_a_packed_server_are_judged(tmp_path: Path) -> None:
    setting = BenchSetting(load_settings(), tmp_path, 1, lambda line: None)
    (figure,) = measure_held_schemas(setting, SchemasSetup(shape=NANO, schemas=12))
    assert figure.value == 1.0
    assert figure.holds
    assert "failed" not in figure.note


def test_an_answer_that_does_not_fit_counts() -> None:
    record = StreamRecord(due=0.0)
    record.status = 400
    assert judge_answer({}, record) == "refused"
    record.status = 503
    assert judge_answer({}, record) == "failed"
