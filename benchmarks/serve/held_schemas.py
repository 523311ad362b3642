"""Answers to random JSON schemas over HTTP: each that is finished parses and validates."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.serve.load_generator import (
    LoadGenerator,
    LoadRequest,
    StreamRecord,
    completion_message,
)
from benchmarks.serve.random_schemas import Schema, make_schema
from benchmarks.serve.targets.peer_servers import open_own_server
from benchmarks.serve.targets.served_models import make_bench_model
from models.shape import DecoderShape
from models.shape_presets import TINY


@dataclass(frozen=True)
class SchemasSetup:
    """Shape, schemas and sampling; a test has few of them."""

    shape: DecoderShape = TINY
    schemas: int = 1000
    first_seed: int = 50_000
    """Of the schemas: none that a test draws."""
    temperature: float = 1.0
    """A model of random weights draws nearly anything then."""
    max_tokens: int = 200
    streams: int = 16


def measure_held_schemas(
    setting: BenchSetting, setup: SchemasSetup = SchemasSetup()
) -> list[BenchFigure]:
    """Share of the finished answers to random schemas that parse and validate.

    Args:
        setting: scratch folder.
        setup: shape, schemas and sampling.

    Raises:
        MillError: the server failed.
    """
    seeds = range(setup.first_seed, setup.first_seed + setup.schemas)
    schemas = [make_schema(seed) for seed in seeds]
    model = make_bench_model(setting.scratch / "model", "3 M", setup.shape)
    requests = [
        LoadRequest(
            completion_message(
                prompt="A record:",
                max_tokens=setup.max_tokens,
                temperature=setup.temperature,
                seed=seed,
                guided_json=schema,
            ),
            keeps_body=True,
            label=str(seed),
        )
        for seed, schema in zip(seeds, schemas, strict=True)
    ]
    with open_own_server(model, setting.scratch / "home") as target:
        records = LoadGenerator(target.server.port).run_closed(requests, setup.streams)
    by_seed = {record.label: record for record in records}  # they come in any order
    answered = [by_seed[str(seed)] for seed in seeds]
    outcomes = Counter(map(judge_answer, schemas, answered))
    finished = outcomes["valid"] + outcomes["invalid"]
    others = ", ".join(f"{count} {kind}" for kind, count in sorted(outcomes.items()))
    return [
        BenchFigure.against_target(
            "answers to random schemas that parse and validate, of those finished",
            outcomes["valid"] / max(1, finished),
            "",
            1.0,
            better="higher",
            note=f"{setup.schemas} schemas: {others}",
        )
    ]


def judge_answer(schema: Schema, record: StreamRecord) -> str:
    """One of: valid, invalid, refused (a 400 that names the reason), failed."""
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

    if record.status == 400:
        return "refused"
    if record.status != 200 or not record.whole:
        return "failed"
    try:
        answer = json.loads(record.text)
    except ValueError:
        return "invalid"
    return "valid" if Draft202012Validator(schema).is_valid(answer) else "invalid"
