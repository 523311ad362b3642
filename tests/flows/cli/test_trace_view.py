"""``trace`` on a real workspace, held against what the files themselves say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.token_arrays import open_split
from flows.configs.text_run import TextRun
from tests.flows.conftest import CommandLine

Ran = tuple[CommandLine, dict[str, Any]]


def folder(nano: Ran, stage: str) -> Path:
    modelmill, answer = nano
    (name,) = (step["artifact"] for step in answer["steps"] if step["stage"] == stage)
    return modelmill.home / "store" / str(name)


def of_this_run(nano: Ran, found: list[dict[str, Any]]) -> dict[str, Any]:
    """What was found in this run's corpus; other tests make further ones in the same workspace."""
    (corpus,) = (step["digest"] for step in nano[1]["steps"] if step["stage"] == "select")
    return next(entry for entry in found if entry["corpus"] == corpus)  # one a key of that content


def documents(nano: Ran) -> list[dict[str, Any]]:
    shards = sorted(folder(nano, "select").glob("*.parquet"))
    return [row for shard in shards for row in pq.read_table(shard).to_pylist()]


def test_a_page_is_traced_to_the_bento(nano: Ran) -> None:
    modelmill, _ = nano
    document = documents(nano)[0]
    told = modelmill.answer("trace", document["url"])
    assert told == modelmill.answer("trace", document["id"])
    assert told["crawls"][0]["fetched"][0]["status"] == 200
    assert of_this_run(nano, told["verdicts"])["document"] == document["id"]
    reached = of_this_run(nano, told["reached"])
    assert reached["datasets"]
    made_by = {model["stage"] for model in reached["models"]}
    assert made_by == {"pretrain", "sft", "reward", "ppo", "keep_best"}
    assert reached["versions"][0]["aliases"] == ["champion"]
    assert (
        modelmill.home / "bentos/bentos/modelmill" / reached["versions"][0]["bentos"][0]
    ).is_dir()
    tokenizer = open_tokenizer(folder(nano, "tokenizer"))
    ids = tokenizer.encode_text(document["text"])
    assert reached["tokens"][0]["tokens"] == len(ids) + 1  # and the end of text


def test_held_out_pages_are_said_to_be(nano: Ran) -> None:
    modelmill, _ = nano
    outside = pq.read_table(folder(nano, "tokens") / "heldout.parquet").to_pylist()[0]
    reached = of_this_run(nano, modelmill.answer("trace", outside["url"])["reached"])
    assert reached["tokens"][0]["split"] == "held-out"
    assert not reached["trained_on"]
    assert "trained without it" in modelmill("trace", outside["url"]).stdout


def test_a_dropped_page_is_explained(nano: Ran) -> None:
    modelmill, _ = nano
    rows = [
        row
        for shard in sorted((folder(nano, "select") / "ledger").glob("*.parquet"))
        for row in pq.read_table(shard).to_pylist()
        if not row["kept"]
    ]
    if not rows:
        pytest.skip("this crawl kept every page")
    told = modelmill.answer("trace", rows[0]["url"])
    verdict = of_this_run(nano, told["verdicts"])
    assert not verdict["kept"]
    assert verdict["reasons"] == rows[0]["reasons"]
    assert {rule["rule"] for rule in verdict["failed"]} | {"duplicates"} >= set(rows[0]["reasons"])
    assert verdict["corpus"] not in {entry["corpus"] for entry in told["reached"]}


def test_a_model_is_traced_to_its_sources(nano: Ran) -> None:
    modelmill, answer = nano
    told = modelmill.answer("trace", "nano@champion")
    assert told == modelmill.answer("trace", "nano") == modelmill.answer("trace", "nano/1")
    (sources,) = told["sources"]
    train = open_split(folder(nano, "tokens"), "train")
    assert sources["train_tokens"] == len(train.tokens)
    assert sum(host["tokens"] for host in sources["hosts"]) == len(train.tokens)
    assert sources["largest"][0]["tokens"] == int(np.diff(train.documents).max())
    evaluations = {"loss", "choice", "facts", "compare", "check", "safety"}
    made = {
        step["digest"]
        for step in answer["steps"]
        if step["artifact"].startswith("sealed/") and step["stage"] not in evaluations
    }
    assert {node["digest"] for node in told["chain"]} == made
    seen: set[str] = set()
    for node in told["chain"]:  # makers before what they made
        assert set(node["parents"].values()) <= seen
        seen.add(node["digest"])
    assert told["gone"] == {}
    assert told["dropped"]["kept"] == len(documents(nano))


def test_a_bare_address_is_enough_and_a_wrong_one_names_what_is_near(nano: Ran) -> None:
    modelmill, _ = nano
    url = documents(nano)[0]["url"]
    bare = url.partition("://")[2]
    assert modelmill.answer("trace", bare) == modelmill.answer("trace", url)
    wrong = modelmill("trace", f"{bare[:-1]}")
    assert wrong.returncode == 2
    assert f"near: {url}" in wrong.stderr
    dry = modelmill.answer("forget", bare, "--dry-run")
    assert dry["target"] == url
    refused = modelmill("forget", f"{bare}.htm")
    assert refused.returncode == 2
    assert url in refused.stderr


@pytest.mark.parametrize("what", ["nano/7", "nobody", "https://nowhere.example/", "a.example/x"])
def test_nonsense_is_one_line(nano: Ran, what: str) -> None:
    done = nano[0]("trace", what)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_person_sees_the_same(nano: Ran) -> None:
    modelmill, _ = nano
    shown = modelmill("trace", "nano").stdout
    told = modelmill.answer("trace", "nano")
    counts = Counter(node["stage"] for node in told["chain"])
    assert f"{told['sources'][0]['train_tokens']:,} training tokens" in shown
    assert counts.keys() <= TextRun.model_fields.keys()  # one name for a stage everywhere
    assert counts["sft"] == 1
    unseen = [stage for stage in counts if f"│{stage} " not in shown]
    assert not unseen, shown
