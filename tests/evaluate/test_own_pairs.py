"""Held-out pairs of a team's own: the margin of a model, and their say in the choice."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from components.core.store.artifact import Checkpoint, Preferences, Tokenizer, Tokens
from components.core.store.shards import write_shard
from components.core.store.workdir import Workdir
from components.evaluate.keep_best import VERDICTS_FILE, KeepBestConfig, keep_best
from components.evaluate.own_pairs import own_pair_items, read_own_pairs
from components.evaluate.probing_prompts import SafetyProbe
from components.evaluate.safety import SafetyConfig
from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.chat.judged_prompts import OWN_ANSWERS_FILE
from components.text.decoder_files import load_model
from tests.evaluate.speakers import seal_speaker, seal_tokenizer
from tests.evaluate.test_keep_best import some_instructions

NAMES = [f"{verb}{thing}" for verb in ("load", "dump") for thing in "abcdefgh"]
CONFIG = KeepBestConfig(
    max_new=20,
    decided_by="own_preferences",
    safety=SafetyConfig(
        probes=(SafetyProbe(name="mail", prompt="Whose mail?"),), questions=16, max_new=20
    ),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pairs") / "store"


@pytest.fixture(scope="module")
def tokenizer(root: Path) -> Tokenizer:
    return seal_tokenizer(root, [f"What is `{n}`? It is good. It is bad." for n in NAMES], 340)


def speaker(root: Path, tokenizer: Tokenizer, answer: str) -> Checkpoint:
    turns = [(f"What is `{name}`?", answer) for name in NAMES]
    return seal_speaker(root, tokenizer, turns, steps=40, context=96)


@pytest.fixture(scope="module")
def good(root: Path, tokenizer: Tokenizer) -> Checkpoint:
    return speaker(root, tokenizer, "It is good.")


@pytest.fixture(scope="module")
def bad(root: Path, tokenizer: Tokenizer) -> Checkpoint:
    return speaker(root, tokenizer, "It is bad.")


@pytest.fixture(scope="module")
def preferences(root: Path, tokenizer: Tokenizer) -> Preferences:
    """A team that prefers what is bad."""
    opened = open_tokenizer(root / tokenizer.name)
    work = Workdir.temporary(root)
    rows = [
        {
            "split": "heldout" if number % 4 else "train",
            "page": name,
            "source": "pairs",
            "prompt": opened.encode_question(f"What is `{name}`?"),
            "tokens": [*opened.encode_text(said), *opened.answer_end_ids],
            "judgement": judgement,
        }
        for number, name in enumerate(NAMES)
        for said, judgement in (("It is bad.", 1.0), ("It is good.", 0.0))
    ]
    write_shard(work.folder / OWN_ANSWERS_FILE, pa.Table.from_pylist(rows))
    return work.seal(Preferences)


@pytest.fixture(scope="module")
def tokens(root: Path, tokenizer: Tokenizer) -> Tokens:
    work = Workdir.temporary(root)
    vocabulary = open_tokenizer(root / tokenizer.name).vocabulary
    for split in ("train", "heldout"):
        np.save(work.folder / f"{split}.npy", np.arange(40, 140, dtype=np.uint16))
        np.save(work.folder / f"{split}.docs.npy", np.array([0, 100], dtype=np.int64))
    meta = {"vocabulary": vocabulary, "eos": 0, "train_bytes": 100, "heldout_bytes": 100}
    (work.folder / "meta.json").write_text(json.dumps(meta))
    return work.seal(Tokens)


def test_the_margin_is_the_mean_log_probability_of_a_token(root, bad, preferences):
    pairs = read_own_pairs(root / preferences.name, 96, None)
    assert [pair.page for pair in pairs] == [name for n, name in enumerate(NAMES) if n % 4]
    model = load_model(root / bad.name)
    items = own_pair_items(model, pairs)

    def nats(prompt: tuple[int, ...], answer: tuple[int, ...]) -> float:
        ids = torch.tensor([[*prompt, *answer]])
        with torch.inference_mode():
            scores = model.logits(model.hidden(ids[:, :-1])).float().log_softmax(-1)[0]
        chosen = scores[torch.arange(len(ids[0]) - 1), ids[0, 1:]]
        return float(chosen[len(prompt) - 1 :].mean())

    first = pairs[0]
    expected = nats(first.prompt, first.chosen) - nats(first.prompt, first.rejected)
    assert items.values["preference"][0] == pytest.approx(expected, abs=1e-4)
    assert all(value > 0.5 for value in items.values["preference"])
    assert math.isclose(float(items.weights.sum()), len(pairs))


def test_pairs_beyond_the_context_or_the_limit_are_left_out(root, preferences):
    folder = root / preferences.name
    whole = read_own_pairs(folder, 96, None)
    longest = max(len(pair.prompt) + len(pair.rejected) for pair in whole)
    assert len(read_own_pairs(folder, longest - 1, None)) < len(whole)
    limited = read_own_pairs(folder, 96, 3)
    assert [pair.page for pair in limited] == sorted(pair.page for pair in whole)[:3]
    assert read_own_pairs(None, 96, None) == []


@pytest.fixture
def choose(root, tokenizer, tokens):
    def call(incumbent, candidate, preferences, config=CONFIG, pages=6):
        kept = keep_best(
            config,
            incumbent,
            {"ppo": candidate},
            some_instructions(root, pages),
            tokenizer,
            tokens,
            Workdir.temporary(root),
            preferences=preferences,
        )
        return kept, json.loads((root / kept.name / VERDICTS_FILE).read_bytes())

    return call


def test_own_pairs_decide_where_the_principles_do_not(choose, good, bad, preferences):
    kept, verdicts = choose(good, bad, preferences)
    assert verdicts["kept"] == "ppo"
    assert verdicts["candidates"][0]["comparisons"][0]["figure"] == "own.preference"
    kept, verdicts = choose(bad, good, preferences)
    assert verdicts["kept"] == "sft"
    kept, _ = choose(good, bad, None)
    assert kept.note == "sft (ppo not judged)"


def test_a_candidate_that_prefers_less_what_a_team_chose_is_not_kept(
    choose, good, bad, preferences
):
    by_principles = CONFIG.model_copy(update={"decided_by": "principles"})
    _, verdicts = choose(bad, good, preferences, by_principles, pages=48)
    worse = [c["figure"] for c in verdicts["candidates"][0]["comparisons"] if c["worse"]]
    assert "own.preference" in worse
    assert verdicts["kept"] == "sft"
