"""Preference data: judged answers, pairs, and a resume with the same bytes."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from components.align.preferences import make_preferences
from components.core.progress import Progress
from components.text.chat.chat_tokenizer import open_tokenizer
from tests.align.chain import PAIRS


def test_pairs_put_the_answer_that_says_what_the_documentation_says_first(world, preferences):
    table = pq.read_table(world.root / preferences.name / "train.parquet").to_pylist()
    assert preferences.stats["train_pairs"] == len(table) > 8
    assert all(row["margin"] >= PAIRS.margin for row in table)
    told = [row for row in table if "good" in row["chosen"] and "bad" in row["rejected"]]
    assert len(told) > len(table) / 2
    votes = {vote["principle"]: vote for vote in told[0]["votes"]}
    assert votes["faithful"]["chosen"] > votes["faithful"]["rejected"]


def test_every_answer_is_kept_with_its_judgement_and_tokens(world, preferences):
    opened = open_tokenizer(world.root / world.tokenizer.name)
    rows = pq.read_table(world.root / preferences.name / "answers.parquet").to_pylist()
    assert len(rows) == (PAIRS.questions + PAIRS.heldout_questions) * PAIRS.answers
    assert {row["page"].rstrip("0123456789") for row in rows if row["split"] == "train"} == {
        "align"
    }
    assert {row["page"].rstrip("0123456789") for row in rows if row["split"] == "heldout"} == {
        "heldout"
    }
    for row in rows:
        assert opened.decode(row["tokens"]).strip() == row["answer"]
        weighed = sum(
            vote["score"] * (3 if vote["principle"] == "faithful" else 1) for vote in row["votes"]
        )
        assert row["judgement"] == pytest.approx(weighed / 4)


def test_pairs_resume_chunk_by_chunk_with_the_same_bytes(world, preferences):
    class Killed(Exception):
        pass

    def listener(progress: Progress) -> None:
        if progress.done >= PAIRS.chunk:
            raise Killed

    work = world.work()
    work.progress.listener = listener
    with pytest.raises(Killed):
        make_preferences(PAIRS, world.policy, world.instructions, world.tokenizer, work)
    first = work.scratch / "train" / "00000.parquet"
    before = first.stat().st_mtime_ns
    assert not (work.scratch / "train" / "00001.parquet").exists()
    seen: list[float] = []

    def later(progress: Progress) -> None:
        if first.exists():
            seen.append(first.stat().st_mtime_ns)

    work.progress.listener = later
    again = make_preferences(PAIRS, world.policy, world.instructions, world.tokenizer, work)
    assert again.digest == preferences.digest
    assert set(seen) == {before}
