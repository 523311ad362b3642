"""The incumbent goes on unless a candidate is better beyond chance, and worse in nothing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from components.core.errors import ConfigError
from components.core.stats.paired_difference import adjust_p_values, pair_items
from components.core.stats.report_items import ReportItems, item_keys
from components.core.store.artifact import Checkpoint, Instructions, Lineage, Tokenizer, Tokens
from components.core.store.lineage_graph import ArtifactGraph
from components.core.store.shards import read_shard, write_shard
from components.core.store.store import Store
from components.core.store.workdir import Workdir
from components.evaluate.candidate_verdicts import choose_candidate, judge_candidates
from components.evaluate.exact_facts import draw_facts
from components.evaluate.four_choice import read_descriptions
from components.evaluate.keep_best import VERDICTS_FILE, KeepBestConfig, keep_best
from components.evaluate.safety import SafetyConfig, read_safety_prompts
from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.constitution.principles import Constitution, Principle
from components.text.decoder_files import load_model, same_weights, save_model
from components.text.heldout_split import rows_of_half
from tests.evaluate.speakers import seal_speaker, seal_tokenizer

NAMES = [f"{verb}{thing}" for verb in ("load", "dump", "walk", "join") for thing in "abcdefgh"]
CONFIG = KeepBestConfig(
    draws=2,
    max_new=20,
    batch=64,
    safety=SafetyConfig(probes=(), questions=16, max_new=20),
)


def question(name: str) -> str:
    return f"What is `kit.{name}`?"


def reference(name: str) -> str:
    return f"The `{name}` helper is good."


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keep") / "store"


@pytest.fixture(scope="module")
def tokenizer(root: Path) -> Tokenizer:
    texts = [f"{question(name)} {reference(name)} It is bad." for name in NAMES]
    return seal_tokenizer(root, texts, 400)


def some_instructions(root: Path, pages: int) -> Instructions:
    work = Workdir.temporary(root)
    rows = [
        {
            "id": f"page{page}",
            "url": f"http://docs/{page}",
            "kind": "describe",
            "subject": f"kit.{name}",
            "question": question(name),
            "answer": reference(name),
        }
        for page in range(pages)
        for name in (NAMES[page % len(NAMES)], NAMES[(7 * page + 3) % len(NAMES)])
    ]
    for split in ("train", "align", "heldout"):
        write_shard(work.folder / f"{split}.parquet", pa.Table.from_pylist(rows))
    return work.seal(Instructions)


@pytest.fixture(scope="module")
def instructions(root: Path) -> Instructions:
    return some_instructions(root, 48)


@pytest.fixture(scope="module")
def tokens(root: Path, tokenizer: Tokenizer) -> Tokens:
    work = Workdir.temporary(root)
    vocabulary = open_tokenizer(work.artifact_folder(tokenizer)).vocabulary
    for split in ("train", "heldout"):
        np.save(work.folder / f"{split}.npy", np.arange(40, 140, dtype=np.uint16))
        np.save(work.folder / f"{split}.docs.npy", np.array([0, 100], dtype=np.int64))
    meta = {"vocabulary": vocabulary, "eos": 0, "train_bytes": 100, "heldout_bytes": 100}
    (work.folder / "meta.json").write_text(json.dumps(meta))
    return work.seal(Tokens)


def speaker(root: Path, tokenizer: Tokenizer, answer: str) -> Checkpoint:
    """A model that gives about the same answer to everything; ``{}`` is the name asked about."""
    turns = [(question(name), answer.format(name)) for name in NAMES]
    return seal_speaker(root, tokenizer, turns, steps=60, context=192)


@pytest.fixture(scope="module")
def good(root: Path, tokenizer: Tokenizer) -> Checkpoint:
    return speaker(root, tokenizer, "The `{}` helper is good.")


@pytest.fixture(scope="module")
def bad(root: Path, tokenizer: Tokenizer) -> Checkpoint:
    return speaker(root, tokenizer, "of | of | of | of")


@pytest.fixture
def keep(root: Path, instructions: Instructions, tokenizer: Tokenizer, tokens: Tokens):
    def call(incumbent: Checkpoint, *, given: Instructions = instructions, **candidates: Any):
        config = candidates.pop("config", CONFIG)
        work = Workdir.temporary(root)
        kept = keep_best(config, incumbent, candidates, given, tokenizer, tokens, work)
        folder = root / kept.name
        return kept, folder, json.loads((folder / VERDICTS_FILE).read_bytes())

    return call


def test_a_better_candidate_is_kept_with_its_curve(root, keep, good, bad) -> None:
    kept, folder, verdicts = keep(bad, ppo=good)
    assert verdicts["kept"] == "ppo"
    assert same_weights(folder, root / good.name)
    assert read_shard(folder / "curve.parquet") == read_shard(root / good.name / "curve.parquet")
    assert re.fullmatch(r"ppo \(ppo \+0\.\d{3} \[\+0\.\d{3}, \+0\.\d{3}\]: better\)", kept.note)
    assert kept.stats["kept_candidate"] == 1.0
    assert kept.stats["difference_low_ppo"] > 0
    assert kept.digest not in (good.digest, bad.digest)


def test_a_policy_made_worse_is_not_kept(root, keep, good, bad) -> None:
    kept, folder, verdicts = keep(good, ppo=bad)
    assert verdicts["kept"] == "sft"
    assert same_weights(folder, root / good.name)
    assert re.fullmatch(r"sft \(ppo -0\.\d{3} \[-0\.\d{3}, -0\.\d{3}\]: no better\)", kept.note)


def test_an_unchanged_candidate_is_not_asked(root, keep, good) -> None:
    kept, _, verdicts = keep(good, ppo=good)
    assert kept.note == "sft (ppo unchanged)"
    assert verdicts["candidates"][0]["comparisons"] == []


def test_weights_that_are_no_numbers_are_never_kept(root, keep, good) -> None:
    work = Workdir.temporary(root)
    model = load_model(work.artifact_folder(good))
    with torch.no_grad():
        model.embed_tokens.weight[3, 3] = float("nan")
    save_model(work.folder, model)
    kept, folder, _ = keep(good, ppo=work.seal(Checkpoint))
    assert kept.note == "sft (ppo not finite)"
    assert same_weights(folder, root / good.name)


def test_too_few_pages_or_prompts_keep_the_incumbent(root, keep, good, bad) -> None:
    kept, _, _ = keep(bad, ppo=good, given=some_instructions(root, 6))
    assert kept.note == "sft (ppo too few to compare)"


def test_a_judge_that_fails_keeps_the_incumbent(keep, good, bad, monkeypatch) -> None:
    check = CONFIG.constitution.principles[0].check
    broken = Constitution(principles=(Principle(name="broken", description="breaks", check=check),))

    def fails(self: object, case: object) -> float:
        raise ZeroDivisionError("no words")

    monkeypatch.setattr(type(check), "score", fails)
    kept, _, _ = keep(bad, ppo=good, config=CONFIG.model_copy(update={"constitution": broken}))
    assert kept.note == "sft (ppo not judged)"


def test_only_the_choosing_half_is_asked(root, keep, good, bad, instructions) -> None:
    rows = read_shard(root / instructions.name / "heldout.parquet").to_pylist()
    choosing = rows_of_half(rows, "choosing")
    _, _, verdicts = keep(bad, ppo=good)
    reward = verdicts["candidates"][0]["comparisons"][0]
    assert reward["n"] == len(choosing)
    assert reward["pages"] == len({row["id"] for row in choosing})


def test_no_task_asks_what_is_reported_on(root, instructions, tokenizer) -> None:
    folder, opened = root / instructions.name, open_tokenizer(root / tokenizer.name)
    drawn = {
        half: [
            {one.page for one in draw_facts(CONFIG.facts, folder, opened, longest=150, half=half)},
            {row["id"] for row in read_descriptions(folder, half)},
            {one.page for one in read_safety_prompts(CONFIG.safety, folder, opened, 150, half)},
        ]
        for half in ("choosing", "reporting")
    }
    for choosing, reporting in zip(*drawn.values(), strict=True):
        assert choosing
        assert not choosing & reporting
    assert KeepBestConfig().safety.seed != SafetyConfig().seed  # probes are asked by both


def test_a_killed_try_goes_on_from_its_answers(
    root, good, bad, keep, instructions, tokenizer, tokens, monkeypatch
) -> None:
    whole, _, _ = keep(bad, ppo=good)
    work = Workdir.temporary(root)
    arguments = (bad, {"ppo": good}, instructions, tokenizer, tokens)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("components.evaluate.keep_best.judge_candidates", killed)
        with pytest.raises(KeyboardInterrupt):
            keep_best(CONFIG, *arguments, work)
    monkeypatch.setattr("components.evaluate.keep_best.answer_and_judge", killed)
    again = keep_best(CONFIG, *arguments, Workdir(root, work.key, work.lineage))
    assert again.digest == whole.digest


def test_another_vocabulary_is_refused(root, keep, good) -> None:
    work = Workdir.temporary(root)
    shutil.copytree(root / good.name, work.folder, dirs_exist_ok=True)
    (work.folder / "artifact.json").unlink()
    shape = json.loads((work.folder / "model.json").read_text())
    (work.folder / "model.json").chmod(0o644)
    (work.folder / "model.json").write_text(json.dumps({**shape, "vocabulary": 17}))
    with pytest.raises(
        ConfigError, match=r"model ppo .*\(vocabulary of 17, .* are of different tokenizers"
    ):
        keep(good, ppo=work.seal(Checkpoint))


def test_nothing_vanishes_behind_a_candidate(
    root, good, bad, instructions, tokenizer, tokens
) -> None:
    """A candidate of the incumbent's very bytes, made by another stage, stays in the graph."""
    store = Store(root)
    work = Workdir(
        root,
        "0attempt",
        Lineage(component="align.attempt", code="", config="", parents={"reward": bad.digest}),
    )
    shutil.copytree(
        root / good.name, work.folder, dirs_exist_ok=True, ignore=lambda *_: ["artifact.json"]
    )
    attempt = work.seal(Checkpoint)
    assert attempt.digest == good.digest
    given = {
        "incumbent": good,
        "candidates": {"ppo": attempt},
        "instructions": instructions,
        "tokenizer": tokenizer,
        "tokens": tokens,
    }
    kept, _ = store.run_request(store.make_request(keep_best, CONFIG, given))
    graph = ArtifactGraph.read(root)
    made_from = {node.key for node in graph.provenance_chain([kept.digest])}
    assert {Path(one.name).name for one in (attempt, bad, kept)} <= made_from
    assert graph.with_digest(kept.digest)[0].note == "sft (ppo unchanged)"


def items(values: np.ndarray, pages: int, name: str) -> ReportItems:
    keys = item_keys(list(range(len(values))))
    return ReportItems(
        keys, [f"p{n % pages}" for n in range(len(values))], np.ones(len(values)), {name: values}
    )


def test_gain_at_the_price_of_facts_is_no_better() -> None:
    draw = np.random.default_rng(0)
    before = {
        "reward": items(draw.uniform(size=400), 40, "reward"),
        "facts": items(np.ones(400), 40, "trained_some_parameters"),
    }
    gained = items(before["reward"].values["reward"] + 0.02, 40, "reward")
    fell = items((draw.uniform(size=400) > 0.2).astype(float), 40, "trained_some_parameters")
    (same,) = judge_candidates({"ppo": ({**before, "reward": gained}, before)})
    (worse,) = judge_candidates({"ppo": ({"reward": gained, "facts": fell}, before)})
    assert choose_candidate([same]) == "ppo"
    assert choose_candidate([worse]) is None
    assert "but worse in facts.trained_some_parameters -0." in str(worse)


def test_many_candidates_of_pure_noise_are_seldom_kept() -> None:
    """Without Holm's adjustment some one of ten equal models passes in every fourth run."""
    draw = np.random.default_rng(1)
    kept = 0
    for _ in range(60):
        base = draw.uniform(size=240)
        before = {"reward": items(base, 24, "reward")}
        noisy = {
            f"m{n}": ({"reward": items(base + draw.normal(0, 0.1, 240), 24, "reward")}, before)
            for n in range(10)
        }
        kept += choose_candidate(judge_candidates(noisy)) is not None
    assert kept <= 6  # 5 % of 60 are expected at most, half of that on the better side


@pytest.mark.parametrize("pages", [8, 12, 40])
def test_a_p_value_says_what_its_interval_says(pages: int) -> None:
    draw = np.random.default_rng(pages)
    apart = []
    for _ in range(200):
        values = draw.normal(0.05, 0.15, pages * 4)
        pairs = pair_items("x", items(values, pages, "x"), items(0 * values, pages, "x"))
        interval, p = pairs.difference("x"), pairs.p_value("x")
        outside = interval.low > 0 or interval.high < 0
        if outside != (p < 0.05):
            apart.append(p)
    assert all(abs(p - 0.05) < 0.004 for p in apart), apart
    assert len(apart) <= 8


def test_holm_adjusts_the_smallest_most_and_keeps_the_order() -> None:
    assert adjust_p_values([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_p_values([0.9, 0.8]) == [1.0, 1.0]
