"""Bad input: one line, exit code 2 (or 1), no traceback, nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.flows.conftest import CommandLine


@pytest.fixture
def modelmill(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "home")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "preset: nano\npretrain: {minutez: 5}\n",
            "acme.yaml:2: pretrain.minutez: unknown field; did you mean 'minutes'?",
        ),
        (
            "preset: nano\npretrain:\n  minutes: soon\n",
            "acme.yaml:3: pretrain.minutes: given 'soon': must be a number",
        ),
        (
            "preset: nano\nscrape:\n  max_pages: 0\n",
            "acme.yaml:3: scrape.max_pages: given 0: must be at least 1",
        ),
        ("preset: nano\nscrape: {seeds: ['ftp://x']}\n", "acme.yaml:2: scrape.seeds"),
        (
            "preset: nano\npretrain:\n  shape: {widht: 3}\n",
            "acme.yaml:3: pretrain.shape.widht: unknown field; did you mean 'width'?",
        ),
        ("preset: huge\n", "acme.yaml:1: preset: given 'huge'"),
        ("name: a\n", "preset"),
        ("preset: [nano]\n", "acme.yaml:1: preset: given ['nano']"),
        ("preset: nano\nname: ../evil\n", "acme.yaml:2: name: given '../evil'"),
    ],
)
def test_a_wrong_file_is_one_line_before_anything_runs(
    modelmill: CommandLine, tmp_path: Path, text: str, expected: str
) -> None:
    path = tmp_path / "acme.yaml"
    path.write_text(text)
    done = modelmill("run", str(path))
    assert done.returncode == 2
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not (modelmill.home / "store").exists()


ENDLESS = (
    "{principles: [{name: endless, description: d, "
    "check: {kind: form, forms: [{asked: '(a|aa)+$'}]}}]}"
)
"""A constitution whose pattern backtracks without end."""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("run", "gigantic"), "neither a preset"),
        (("run", "absent.yaml"), "cannot be read"),
        (("run", "nano", "--set", "pretrain.steps=-1"), "--set pretrain.steps=-1"),
        (("run", "nano", "--set", "scrape.files=[x.md]"), "scrape.files.0: given 'x.md'"),
        (("run", "nano", "--until", "nowhere"), "no such stage; stages: scrape, extract"),
        (("stage", "nowhere", "--output", "x"), "no such stage"),
        (("stage", "extract", "--output", "x"), "--input pages=PATH is missing"),
        (("stage", "extract", "--input", "zzz=.", "--output", "x"), "extract takes pages"),
        (("stage", "scrape", "--input", "x", "--output", "y"), "scrape takes no input"),
        (("stage", "scrape", "--input", "pages=x", "--output", "y"), "scrape takes no input"),
        (
            ("run", "nano", "--set", f"compare.constitution={ENDLESS}"),
            "principle 'endless': pattern",
        ),
        (("serve", "nobody@champion"), "no such model"),
        (("serve",), "no champion to serve yet: no version of any model is registered; `modelmill"),
        (("show", "nothing"), "no run or artifact matches"),
    ],
)
def test_wrong_words_are_one_line(
    modelmill: CommandLine, arguments: tuple[str, ...], expected: str
) -> None:
    done = modelmill(*arguments)
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_unknown_option_is_a_usage_error(modelmill: CommandLine) -> None:
    done = modelmill("run", "nano", "--nope")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_an_unreachable_seed_is_one_line(modelmill: CommandLine) -> None:
    # Port 9 of the loopback: nobody listens.
    sets = ("scrape.seeds=[http://127.0.0.1:9/]", "scrape.allow_private=true", "scrape.retries=0")
    done = modelmill("run", "nano", "--plain", *(word for s in sets for word in ("--set", s)))
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "http://127.0.0.1:9/" in last
    assert "Traceback" not in done.stderr
    assert not (modelmill.home / "store" / "sealed").exists()
    assert modelmill.answer("show")["runs"][0]["state"] == "failed"


def test_a_private_address_is_refused_unless_allowed(modelmill: CommandLine) -> None:
    done = modelmill("run", "nano", "--plain", "--set", "scrape.seeds=[http://127.0.0.1:9/]")
    assert done.returncode == 1
    assert "refused" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_prefect_server_that_starts_too_slowly_is_one_line(
    modelmill: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No server has answered after a second: its imports alone take longer.
    monkeypatch.setenv("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "1")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    done = modelmill("run", "nano", "--until", "scrape")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Prefect's own server does not answer" in done.stderr
    assert "--plain" in done.stderr
    assert done.stderr.count("\n") == 1
    (run,) = modelmill.answer("show")["runs"]
    assert (run["state"], run["steps"]) == ("failed", [])


def test_schema_and_plan_answer_without_a_workspace(modelmill: CommandLine) -> None:
    assert "pretrain" in modelmill.answer("schema")["properties"]
    minutes = ["--set", "pretrain.minutes=4"]
    told = modelmill.answer("plan", "tiny", "--set", "prices.machine_hour=3.6", *minutes)
    first = told["plan"][0]
    assert (first["name"], first["state"], first["because"]) == (
        "scrape",
        "would run",
        ["never ran"],
    )
    assert (first["seconds"], first["cost"]) == (None, None)
    pretrain = next(step for step in told["plan"] if step["name"] == "pretrain")
    assert pretrain["seconds"] == pytest.approx(1000 * pretrain["cost"])  # the budget of the config
    assert "scrape" in told["totals"]["unknown"]
    assert told["currency"] == "EUR"
    assert not modelmill.home.exists()  # it writes nothing


def test_a_failure_is_an_object_for_a_program(modelmill: CommandLine) -> None:
    done = modelmill("run", "gigantic", "--json")
    assert done.returncode == 2
    told = json.loads(done.stdout)
    assert (told["kind"], told["exit_code"]) == ("ConfigError", 2)
    assert done.stderr == f"modelmill: {told['error']}\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("run", "nano", "--nope"), "No such option: --nope"),
        (("run",), "Missing argument 'target'; see `modelmill run --help`"),
        (("nonsense",), "No such command 'nonsense'"),
        (("serve", "--port", "x"), "--port"),
        (("models", "nano"), "unexpected extra argument"),
        (("run", "nano", "--until"), "no such stage"),  # takes --json for its value
    ],
)
def test_wrong_words_are_an_object_for_a_program(
    modelmill: CommandLine, arguments: tuple[str, ...], expected: str
) -> None:
    done = modelmill(*arguments, "--json")
    told = json.loads(done.stdout)
    assert done.returncode == told["exit_code"] == 2
    assert expected in told["error"]
    assert done.stderr == f"modelmill: {told['error']}\n"


def test_a_stage_names_a_bad_input_as_it_was_given(modelmill: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "00000.parquet").write_bytes(b"no Parquet")
    given = f"corpus={tmp_path / 'corpus'}"
    done = modelmill("stage", "quality", "--input", given, "--output", str(tmp_path / "out"))
    assert done.returncode == 1
    assert str(tmp_path / "corpus") in done.stderr
    assert "sealed" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_shard_without_a_stage_s_column_is_one_line(
    modelmill: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "corpus").mkdir()
    pq.write_table(pa.table({"id": ["a"], "words": [3]}), tmp_path / "corpus" / "00000.parquet")
    given = f"corpus={tmp_path / 'corpus'}"
    done = modelmill("stage", "quality", "--input", given, "--output", str(tmp_path / "out"))
    assert done.returncode == 1
    assert 'Field "text" does not exist' in done.stderr
    assert "it holds id, words" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_file_for_a_workspace_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    done = CommandLine(tmp_path / "home")("plan", "nano")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "is a file; name a folder" in done.stderr


def test_minutes_too_few_are_refused_before_the_crawl(modelmill: CommandLine) -> None:
    """Six milliseconds hold no fifty steps of any machine."""
    done = modelmill("run", "nano", "--plain", "--set", "pretrain.minutes=0.0001")
    assert done.returncode == 2, done.stderr
    assert "pretrain.minutes: 0.0001 is 1 step of " in done.stderr
    assert "or allow it with pretrain.min_steps: 1\n" in done.stderr
    assert not (modelmill.home / "store" / "sealed").exists()
    told = modelmill.answer("plan", "nano", "--set", "pretrain.minutes=0.0001")
    assert told["refused"][0].startswith("pretrain.minutes: 0.0001 is 1 step of ")
    assert modelmill.answer("plan", "nano")["refused"] == []
