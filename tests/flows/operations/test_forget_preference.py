"""A judged answer is traced by its row, forgotten, and found nowhere; runs to come leave it out."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.flows.conftest import CommandLine, states

SENTENCE = "The indigo walrus of Port Quillby polished nineteen copper kettles after supper."
WORDS = [
    "table",
    "value",
    "number",
    "list",
    "name",
    "file",
    "result",
    "call",
    "order",
    "place",
    "reason",
    "answer",
]
RUN = """\
preset: nano
name: own
scrape: {files: [pages]}
preferences: {files: [mine.jsonl], principles: false, heldout_share: 0.2}
instructions: {min_heldout: 1}
tokens: {min_train_tokens: 100}
tokenizer: {vocabulary: 320}
pretrain: {steps: 4, minutes: null, shape: {vocabulary: 320}}
sft: {steps: 2, minutes: null}
"""


def sentence(dice: random.Random) -> str:
    return " ".join(dice.choice(WORDS) for _ in range(10)).capitalize() + "."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's file, its pages and its pairs; row 8 holds the sentence, row 31 nothing."""
    folder = tmp_path_factory.mktemp("own")
    dice = random.Random(0)
    (folder / "pages").mkdir()
    for page in range(12):
        parts = [
            f"## part{part} of {page}\n\nReturn {sentence(dice)}\n\n"
            + " ".join(sentence(dice) for _ in range(6))
            for part in range(4)
        ]
        (folder / "pages" / f"page{page}.md").write_text(f"# module{page}\n\n" + "\n\n".join(parts))
    rows = [
        {
            "prompt": sentence(dice),
            "chosen": SENTENCE if row == 7 else sentence(dice),
            "rejected": sentence(dice),
        }
        for row in range(30)
    ]
    lines = [json.dumps(row) for row in [*rows, {"foo": 1}]]
    (folder / "mine.jsonl").write_text("\n".join(lines))
    (folder / "run.yaml").write_text(RUN)
    return folder


def holding(home: Path) -> set[str]:
    """Files that hold the sentence, unpacked by the test's own hand: the search is not trusted."""
    files = set()
    for path in (p for p in home.rglob("*") if p.is_file()):
        content = path.read_bytes()
        if content[:4] == b"PAR1":
            content = str(pq.read_table(path, partitioning=None).to_pylist()).encode()
        if SENTENCE.encode() in content:
            files.add(path.name)
    return files


@pytest.mark.slow
def test_a_preference_is_traced_forgotten_and_nowhere_after(folder: Path, tmp_path: Path) -> None:
    modelmill = CommandLine(tmp_path / "home")
    arguments = ("run", str(folder / "run.yaml"), "--plain", "--until", "preferences")
    ran = modelmill.answer(*arguments)
    assert states(ran)["own_preferences"] == states(ran)["preferences"] == "Completed"
    assert {"judged.parquet", "answers.own.parquet"} < holding(modelmill.home)

    traced = modelmill.answer("trace", "mine.jsonl:8")
    (verdict,) = traced["verdicts"]
    assert verdict["kept"]
    (made,) = traced["reached"][0]["preferences"]
    assert made["train"] + made["heldout"] == 2
    assert traced["reached"][0]["trained_on"] == (made["train"] > 0)
    assert modelmill.answer("trace", verdict["document"])["page"] == traced["page"]
    shown = modelmill("trace", "mine.jsonl:31")
    assert "set aside: its fields (foo) are of no known format" in shown.stdout

    listed = modelmill.answer("forget", "mine.jsonl:8", "--dry-run")
    assert listed["affected"]["pages"] == [traced["page"]]
    assert listed["affected"]["kinds"] == {"corpus": 1, "preferences": 1}
    modelmill.answer("forget", "mine.jsonl:8", "--rebuild", "--purge", "--yes", "--plain")
    assert holding(modelmill.home) == set()
    assert modelmill.answer("forget", SENTENCE, "--verify")["clean"]

    again = modelmill.answer(*arguments)
    assert states(again)["sft"] == "Cached"
    assert holding(modelmill.home) == set()
    told = modelmill.answer("trace", "mine.jsonl:8")
    assert told["verdicts"][0]["reasons"] == ["blocked"]
    assert not told["reached"]
