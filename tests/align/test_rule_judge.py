"""Rule judge: the prompts held back for it, and its judgements as pairs."""

from __future__ import annotations

from dataclasses import replace

from components.align.rule_judge import split_prompts
from components.text.chat.ask_model import read_questions
from components.text.chat.chat_tokenizer import open_tokenizer


def test_the_judge_asks_what_no_rollout_asks(world):
    opened = open_tokenizer(world.root / world.tokenizer.name)
    folder = world.root / world.instructions.name
    found = read_questions(folder, "align", opened, longest=70, limit=8, seed=0)
    rollouts, apart = split_prompts(found, 256)
    assert len({one.page for one in apart}) == 2  # of eight
    assert not {one.page for one in apart} & {one.page for one in rollouts}
    assert sorted([*rollouts, *apart], key=found.index) == found
    assert len(split_prompts(found, 1)[1]) == 1
    assert split_prompts(found, 0) == (found, [])


def test_of_few_pages_the_judge_takes_prompts_and_their_copies_are_not_rolled_out(world):
    opened = open_tokenizer(world.root / world.tokenizer.name)
    folder = world.root / world.instructions.name
    found = read_questions(folder, "align", opened, longest=70, limit=8, seed=0)
    same = [replace(one, page=f"{at % 3}") for at, one in enumerate(found)]
    rollouts, apart = split_prompts([same[-1], *same], 256)
    assert apart == same[-2:]
    assert rollouts == same[:-2]
