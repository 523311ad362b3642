from __future__ import annotations

import math

import pyarrow as pa
import pytest
import torch

from components.align.ppo_config import PPOConfig
from components.align.preferences import (
    make_preference_pairs,
    read_preference_prompts,
)
from components.align.preferences_config import PreferencesConfig
from components.align.reward_agreement import (
    AnswerGroup,
    read_correlation,
    within_prompt_correlation,
    within_prompt_deviation,
    write_correlation,
)
from components.align.rule_judge import RuleJudge
from components.align.train_reward import fit_reward_head, score_groups
from components.core.stats.figures import Figure, correlation_interval
from components.core.store.shards import write_shard
from components.text.chat.ask_model import QuestionPrompt
from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.heldout_split import HALF_SEED, is_heldout
from models.scalar_head import ScalarHead
from tests.align.conftest import rows


def group(page: str, judgements: list[float], counts: list[int] | None = None) -> AnswerGroup:
    answers = [[at] for at in range(len(judgements))]
    return AnswerGroup(page, [1], answers, counts or [1] * len(judgements), judgements)


def test_a_prompts_own_level_is_no_part_of_the_correlation() -> None:
    groups = [group("a", [0.1, 0.2, 0.3]), group("b", [0.7, 0.9, 0.5])]
    levels = [[5.1, 5.2, 5.3], [-4.3, -4.1, -4.5]]
    assert within_prompt_correlation(groups, levels).value == pytest.approx(1.0)
    turned = [[-value for value in some] for some in levels]
    assert within_prompt_correlation(groups, turned).value == pytest.approx(-1.0)
    assert within_prompt_correlation(groups, [[3.0] * 3, [9.0] * 3]).value == 0.0


def test_a_prompt_counts_as_its_answers_differ_and_are_given() -> None:
    """By hand: deviations of 0.1 agree, those of 0.3 do not."""
    groups = [group("a", [0.4, 0.6]), group("b", [0.2, 0.8])]
    figure = within_prompt_correlation(groups, [[0.0, 1.0], [1.0, 0.0]])
    products, squares = 2 * 0.1 * 0.5 - 2 * 0.3 * 0.5, (4 * 0.25, 2 * 0.01 + 2 * 0.09)
    assert figure.value == pytest.approx(products / math.sqrt(squares[0] * squares[1]))
    assert (figure.low, figure.high) == pytest.approx((-1.0, 1.0))
    assert figure.n == 2
    often = group("a", [0.0, 1.0], [3, 1])
    assert often.centre_values([0.0, 1.0]) == [-0.25, 0.75]
    assert within_prompt_deviation([often], [[0.0, 1.0]]) == pytest.approx(math.sqrt(3) / 4)


def test_a_correlation_needs_units_of_equal_number() -> None:
    with pytest.raises(ValueError, match="as many products as squares"):
        correlation_interval([1.0], [1.0, 2.0], [1.0])


def test_the_head_finds_what_tells_answers_to_a_prompt_apart() -> None:
    """Judgements are twice the first feature and a level of each prompt; the second is noise."""
    generator = torch.Generator().manual_seed(0)
    groups, features = [], []
    for number in range(40):
        x_af = torch.rand(5, 2, generator=generator)
        judgements = (2 * x_af[:, 0] + number).tolist()
        groups.append(group(f"{number}", judgements, [1, 2, 1, 1, 3]))
        features.append(x_af)
    head = ScalarHead(2)
    fit_reward_head(head, groups, features, ridge=1e-6)
    told, noise = head.out.weight[0].tolist()
    assert abs(noise) < 1e-3 * told
    rewards = score_groups(head, features)
    assert within_prompt_deviation(groups, rewards) == pytest.approx(1.0, abs=1e-5)
    every = [reward for some in rewards for reward in some]
    assert math.fsum(every) / len(every) == pytest.approx(0.0, abs=1e-5)
    held = ScalarHead(2)
    fit_reward_head(held, groups[:2], features[:2], ridge=1e6)
    assert math.isfinite(held.out.bias.item())


def test_the_figure_comes_back_as_it_was_written(tmp_path) -> None:
    figure = Figure(name="within_prompt_correlation", value=0.52, low=0.4, high=0.6, n=30)
    write_correlation(tmp_path, figure)
    assert read_correlation(tmp_path) == figure


def test_the_judge_pairs_judgements_page_by_page() -> None:
    asked = [QuestionPrompt(page, "k", "s", "q", "r", (1,)) for page in ("b", "a", "b")]
    judge = RuleJudge(PPOConfig(), None, asked)  # type: ignore[arg-type]
    pairs = judge.pair_judgements([0.5, 0.9, 0.4], [0.2, 1.0, 0.4])
    assert pairs.count == 3
    assert pairs.gaps == pytest.approx([-0.1, 0.3])
    assert pairs.weights.tolist() == [1.0, 2.0]


def answer(text: str, judgement: float, question: str = "q") -> dict[str, object]:
    return {
        "page": "p",
        "question": question,
        "subject": "s",
        "reference": "r",
        "answer": text,
        "judgement": judgement,
        "votes": [{"principle": "faithful", "score": judgement}],
    }


def test_pairs_are_of_one_prompt_distinct_and_of_a_margin() -> None:
    given = [
        *(answer("best", 0.9), answer("worst", 0.1), answer("best", 0.9), answer("near", 0.89)),
        answer("elsewhere", 0.0, question="other"),
    ]
    pairs = make_preference_pairs(given, 0.02)
    assert [(pair["chosen"], pair["rejected"]) for pair in pairs] == [
        ("best", "worst"),
        ("near", "worst"),
    ]
    assert pairs[0]["margin"] == pytest.approx(0.8)
    assert pairs[0]["votes"] == [{"principle": "faithful", "chosen": 0.9, "rejected": 0.1}]


def test_prompts_that_report_are_never_asked(world, tmp_path) -> None:
    """The reward model's figure decides what rewards, so its prompts are of the choosing half."""
    names = [f"name{index}" for index in range(120)]
    heldout = [
        {**row, "id": f"{index % 40}", "url": f"http://docs/{index % 40}"}
        for index, row in enumerate(rows(names, "heldout"))
    ]
    for split, some in (("align", rows(names[:9], "align")), ("heldout", heldout)):
        write_shard(tmp_path / f"{split}.parquet", pa.Table.from_pylist(some))
    opened = open_tokenizer(world.root / world.tokenizer.name)
    prompts = read_preference_prompts(PreferencesConfig(), tmp_path, opened, 90)
    assert len(prompts["train"]) == 9
    pages = {prompt.page for prompt in prompts["heldout"]}
    assert pages
    assert all(is_heldout(f"http://docs/{page}", 0.5, HALF_SEED) for page in pages)
    few = [
        {**row, "id": f"{index % 3}", "url": f"http://docs/{index % 3}"}
        for index, row in enumerate(heldout)
    ]
    write_shard(tmp_path / "heldout.parquet", pa.Table.from_pylist(few))
    assert {
        p.page
        for p in read_preference_prompts(PreferencesConfig(), tmp_path, opened, 90)["heldout"]
    } == {
        "0",
        "1",
        "2",
    }
