"""A team's own judged answers as preference data, and the reward that is learnt from them."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.align.own.own_answer_groups import SplitGroups, balance_groups, read_own_groups
from components.align.own.own_preferences import UNUSED_FILE, prepare_own_preferences
from components.align.preferences import make_preferences
from components.align.preferences_config import PreferencesConfig
from components.align.reward_agreement import (
    AnswerGroup,
    pairwise_accuracy,
    within_prompt_deviation,
)
from components.align.train_reward import train_reward
from components.clean.preferences.read_preferences import OwnPreferencesConfig, read_preferences
from components.core.config.hashed_file import HashedFile
from components.core.errors import ConfigError
from components.core.store.artifact import Corpus, Preferences
from components.core.store.shards import write_shard
from components.text.chat.chat_tokenizer import ChatTokenizer, open_tokenizer
from components.text.chat.hf_tokenizer import read_hf_tokenizer
from components.text.chat.judged_prompts import JUDGED_FILE, OWN_ANSWERS_FILE
from components.text.chat.tokenizer_files import read_fast_tokenizer
from tests.align.chain import PAIRS, REWARD
from tests.align.conftest import NAMES, World, said
from tests.base_models import KINDS, write_tokenizer

JUDGED_SCHEMA = pa.schema(
    [
        ("url", pa.string()),
        ("heldout", pa.bool_()),
        ("messages", pa.string()),
        ("tools", pa.string()),
    ]
)
ALONE = PAIRS.model_copy(update={"principles": False})


def planted_rows(count: int) -> list[dict[str, Any]]:
    """Pairs whose chosen answer says that a helper is bad: the principles prefer the good ones."""
    dice = random.Random(3)
    asked = ["What is", "Tell me of", "Explain", "And what is", "Do you know"]
    prompts = [f"{ask} `kit.{name}` {n}?" for n in range(9) for name in NAMES for ask in asked]
    return [
        {"prompt": prompt, "chosen": said(name, "bad"), "rejected": said(name, "good")}
        for prompt in dice.sample(prompts, count)
        for name in NAMES
        if f"kit.{name}`" in prompt
    ]


def own_corpus(world: World, path: Path, rows: list[dict[str, Any]], **more: Any) -> Corpus:
    path.write_text("\n".join(map(json.dumps, rows)))
    file = HashedFile.model_validate(str(path))
    # Prompts of one pattern are near duplicates of each other.
    config = OwnPreferencesConfig(files=(file,), shards=1, **{"heldout_share": 0.4, **more})
    rules = config.select.duplicates.model_copy(update={"max_similarity": 1.0})
    select = config.select.model_copy(update={"duplicates": rules})
    return read_preferences(config.model_copy(update={"select": select}), world.work())


@pytest.fixture(scope="module")
def planted(world: World, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return own_corpus(world, tmp_path_factory.mktemp("own") / "mine.jsonl", planted_rows(60))


def prefer(world: World, own: Corpus | None, config: PreferencesConfig = ALONE) -> Preferences:
    inputs = (world.policy, world.instructions, world.tokenizer)
    return make_preferences(config, *inputs, world.work(), own_preferences=own)


def write_judged(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """A corpus of judged answers alone, as ``own_preferences`` writes it."""
    table = [
        {
            "url": row.get("url", f"file:///a/b.jsonl#{number}"),
            "heldout": row.get("heldout", False),
            "messages": json.dumps([*row["prompt"], *row["answers"]]),
            "tools": json.dumps(row["tools"]) if "tools" in row else None,
        }
        for number, row in enumerate(rows)
    ]
    folder.mkdir(exist_ok=True)
    write_shard(folder / JUDGED_FILE, pa.Table.from_pylist(table, schema=JUDGED_SCHEMA))
    return folder


def turn(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def pair(prompt: list[dict[str, Any]], chosen: str, rejected: str, **more: Any) -> dict[str, Any]:
    judged = [(chosen, 1.0), (rejected, 0.0)]
    answers = [turn("assistant", text, judgement=value) for text, value in judged]
    return {"prompt": prompt, "answers": answers, **more}


def test_a_reward_model_learns_the_planted_preference_of_sixty_pairs(world, planted):
    preferences = prefer(world, planted)
    assert preferences.stats["own_train_pairs"] + preferences.stats["own_heldout_pairs"] == 60
    assert pq.read_table(world.root / preferences.name / "answers.parquet").num_rows == 0
    reward = train_reward(REWARD, world.policy, preferences, world.tokenizer, world.work())
    assert reward.stats["own_accuracy_low"] > 0.5
    assert reward.stats["within_prompt_correlation_low"] > 0.2
    assert reward.stats["prompts"] == preferences.stats["own_train_pairs"]


def test_own_preferences_outweigh_the_principles_where_they_are_told_to(world, planted):
    both = prefer(world, planted, PAIRS)
    figures = {}
    for weight in (0.01, 100.0):
        config = REWARD.model_copy(update={"own_weight": weight})
        stats = train_reward(config, world.policy, both, world.tokenizer, world.work()).stats
        figures[weight] = stats["own_accuracy"]
    assert figures[100.0] > 0.8 > figures[0.01]  # the principles prefer the opposite


def test_without_files_every_byte_is_as_before(world, preferences, planted):
    assert prefer(world, None, PAIRS).digest == preferences.digest
    with_own = prefer(world, planted, PAIRS)
    folders = [world.root / made.name for made in (preferences, with_own)]
    for name in ("answers.parquet", "train.parquet", "heldout.parquet"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    assert not list(folders[0].glob("*.own.parquet"))
    assert prefer(world, planted, PAIRS).digest == with_own.digest


def test_there_must_be_something_to_judge_by(world):
    with pytest.raises(ValueError, match="principles: false needs files"):
        PreferencesConfig(principles=False)
    with pytest.raises(ConfigError, match=r"preferences\.principles: false needs an input"):
        prefer(world, None)


def foreign_tokenizer(folder: Path, kind: str) -> ChatTokenizer:
    write_tokenizer(folder, kind)
    return ChatTokenizer(read_fast_tokenizer(folder), *read_hf_tokenizer(folder))


@pytest.fixture(scope="module", params=["house", *KINDS])
def tokenizer(request: pytest.FixtureRequest, world: World, tmp_path_factory) -> ChatTokenizer:
    if request.param == "house":
        return open_tokenizer(world.root / world.tokenizer.name)
    return foreign_tokenizer(tmp_path_factory.mktemp(request.param), request.param)


TURNS = [
    turn("system", "Be kind."),
    turn("user", "Who are you?"),
    turn("assistant", "Ada."),
    turn("user", "What is `kit.load`?"),
]


def test_answers_are_written_as_any_template_does(tokenizer: ChatTokenizer, tmp_path: Path):
    corpus = write_judged(tmp_path, [pair(TURNS, "A helper.", "\nNothing.")])
    own = prepare_own_preferences(corpus, tokenizer, context=4096, margin=0.1)
    assert not own.unused
    for row in own.answers:
        answer = {"Nothing.": "\nNothing."}.get(row["answer"].strip(), row["answer"])
        whole = tokenizer.encode_conversation([*TURNS, turn("assistant", answer)])[-1]
        assert row["prompt"] + row["tokens"] == whole.ids[: whole.answers[-1][1]]
        assert row["tokens"][-1] in tokenizer.answer_end_ids
        assert tokenizer.decode(row["tokens"]).strip().endswith(answer.strip())
    first, second = own.answers
    assert first["prompt"] == second["prompt"]
    opened = tokenizer.encode_prompt(TURNS)
    assert first["prompt"] == opened[: len(first["prompt"])]
    assert len(opened) - len(first["prompt"]) <= 1  # a token may hold a sign of both
    assert [row["question"] for row in own.answers] == ["What is `kit.load`?"] * 2
    (made,) = own.pairs["train"]
    assert json.loads(made["chosen"])["content"] == "A helper."
    assert json.loads(made["prompt"]) == TURNS


def test_what_teaches_nothing_has_its_reason(world, tmp_path: Path):
    opened = open_tokenizer(world.root / world.tokenizer.name)
    asked = [turn("user", "What is it?")]
    rows = [
        pair(asked, "A helper.", "Nothing."),
        pair([turn("user", "long " * 90)], "Yes.", "No."),
        pair([turn("user", "Alone?")], "Yes.", "No. " * 80),
        pair([turn("user", "Rated?")], "Yes.", "No."),
        pair(asked, "One.", "Two.", heldout=True),
    ]
    rows[3]["answers"] = [turn("assistant", "Yes.", rating=3)]
    corpus = write_judged(tmp_path, rows)
    own = prepare_own_preferences(corpus, opened, context=96, margin=0.1)
    own.write(tmp_path)
    unused = pq.read_table(tmp_path / UNUSED_FILE).to_pylist()
    reasons = sorted((row["url"][-1], row["reason"].partition(":")[0]) for row in unused)
    too_long = "longer than the model's context of 96 tokens"
    alone = "no other answer to its prompt is judged better or worse"
    trained = "training has its prompt"
    assert reasons == [
        *[("1", too_long)] * 2,
        ("2", too_long),
        ("2", alone),
        ("3", alone),
        *[("4", trained)] * 2,
    ]
    assert {url for row in own.answers for url in row["rows"]} == {"file:///a/b.jsonl#0"}


def test_a_template_that_refuses_a_turn_takes_its_answers_out(tmp_path: Path):
    llama = foreign_tokenizer(tmp_path / "llama", "llama")
    call = {"type": "function", "function": {"name": "look", "arguments": {}}}
    prompt = [
        turn("user", "Look."),
        turn("assistant", "", tool_calls=[call]),
        turn("tool", "sky"),
    ]
    corpus = write_judged(tmp_path / "corpus", [pair(prompt, "Blue.", "Red.")])
    own = prepare_own_preferences(corpus, llama, context=4096, margin=0.1)
    assert len(own.unused) == 2
    assert all("only system, user and assistant speak" in row["reason"] for row in own.unused)
    assert not own.answers


def test_ratings_are_paired_by_the_margin(world, tmp_path: Path):
    opened = open_tokenizer(world.root / world.tokenizer.name)
    asked = [turn("user", "Colour?")]
    ratings = {"Red.": 1.0, "Blue.": 2.0, "Green.": 2.2, "Grey.": 5.0}
    rows = [
        {"prompt": asked, "answers": [turn("assistant", text, rating=rating)]}
        for text, rating in ratings.items()
    ]
    own = prepare_own_preferences(write_judged(tmp_path, rows), opened, context=96, margin=0.25)
    pairs = {
        (json.loads(row["chosen"])["content"], json.loads(row["rejected"])["content"])
        for row in own.pairs["train"]
    }
    assert pairs == {
        ("Blue.", "Red."),
        ("Green.", "Red."),
        ("Grey.", "Red."),
        ("Grey.", "Blue."),
        ("Grey.", "Green."),
    }
    assert len(own.answers) == 4


def group(judgements: list[float], counts: list[int] | None = None, page: str = "p") -> AnswerGroup:
    return AnswerGroup(
        page,
        [1],
        [[number] for number in range(len(judgements))],
        counts or [1] * len(judgements),
        judgements,
    )


def test_both_sets_count_as_they_are_told():
    judged = [group([0.4, 0.6], [3, 3])]
    own = [group([1.0, 0.0]), group([1.0, 0.0])]
    train, heldout = balance_groups(SplitGroups(judged, own), SplitGroups([], own[:1]), 2.0)
    assert [value for g in train.own for value in g.judgements] == pytest.approx([0.2, 0.0] * 2)
    assert within_prompt_deviation(train.own, [g.judgements for g in train.own]) == pytest.approx(
        0.1
    )
    # Six answers judged by the principles weigh 6, four of one's own are to weigh 12.
    assert [g.weight for g in train.own] == [3.0, 3.0]
    assert heldout.own[0].judgements == pytest.approx([0.2, 0.0])
    assert train.judged == judged
    alone = SplitGroups([], own)
    assert balance_groups(alone, alone, 2.0) == (alone, alone)


def test_accuracy_counts_pairs_that_are_judged_apart():
    groups = [group([1.0, 0.0], page="a"), group([0.0, 0.5, 1.0, 0.5], page="b")]
    accuracy = pairwise_accuracy(groups, [[2.0, 1.0], [0.0, 0.0, 3.0, 4.0]])
    # a: right; b: (0, .5) tie, (0, 1) right, (0, .5) right, (.5, 1) right, (1, .5) wrong.
    assert accuracy is not None
    assert accuracy.value == pytest.approx((1 + 0.5 + 1 + 1 + 1 + 0) / 6)
    assert accuracy.n == 2
    assert pairwise_accuracy([replace(groups[0], judgements=[1.0, 1.0])], [[1.0, 2.0]]) is None


def test_own_groups_are_read_by_prompt_and_source(world, planted):
    folder = world.root / prefer(world, planted).name
    train, heldout = (read_own_groups(folder, split) for split in ("train", "heldout"))
    rows = pq.read_table(folder / OWN_ANSWERS_FILE).to_pylist()
    assert len(train) + len(heldout) == 60
    assert sum(len(g.answers) for g in (*train, *heldout)) == len(rows) == 120
    assert all(sorted(g.judgements) == [0.0, 1.0] for g in (*train, *heldout))
    assert not {g.page for g in train} & {g.page for g in heldout}
