"""A conversation is traced by its row, forgotten, and found nowhere; the runs to come leave it out."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.flows.conftest import CommandLine, states

SENTENCE = "The vermilion heron of Lake Quorvane counted eleven brass umbrellas before breakfast."
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
    "morning",
]
RUN = """\
preset: nano
name: own
scrape: {files: [pages]}
instructions: {files: [chats.jsonl], min_heldout: 1, heldout_share: 0.2}
tokens: {min_train_tokens: 100}
"""


def sentence(dice: random.Random) -> str:
    return " ".join(dice.choice(WORDS) for _ in range(12)).capitalize() + "."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's file, its pages and its conversations; row 8 holds the sentence, row 41 nothing."""
    folder = tmp_path_factory.mktemp("own")
    dice = random.Random(0)
    (folder / "pages").mkdir()
    for page in range(12):
        parts = [
            f"## part{part} of {page}\n\nReturn {sentence(dice)}\n\n"
            + " ".join(sentence(dice) for _ in range(6))
            for part in range(4)
        ]
        text = f"# module{page}\n\n" + "\n\n".join(parts)
        (folder / "pages" / f"page{page}.md").write_text(text)
    rows = [
        {
            "messages": [
                {"role": "user", "content": sentence(dice)},
                {"role": "assistant", "content": SENTENCE if row == 7 else sentence(dice)},
            ]
        }
        for row in range(40)
    ]
    lines = [json.dumps(row) for row in [*rows, {"foo": 1}]]
    (folder / "chats.jsonl").write_text("\n".join(lines))
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


def test_a_conversation_is_traced_forgotten_and_nowhere_after(folder: Path, tmp_path: Path) -> None:
    modelmill = CommandLine(tmp_path / "home")
    arguments = ("run", str(folder / "run.yaml"), "--plain", "--until", "instructions")
    ran = modelmill.answer(*arguments)
    assert states(ran)["conversations"] == "Completed"
    assert states(ran)["instructions"] == "Completed"
    assert {"messages.parquet"} < holding(modelmill.home)

    traced = modelmill.answer("trace", "chats.jsonl:8")
    (verdict,) = traced["verdicts"]
    assert verdict["kept"]
    assert verdict["row"] == "chats.jsonl:8"
    (made,) = traced["reached"][0]["instructions"]
    assert made["train"] + made["align"] + made["heldout"] >= 1
    by_id = modelmill.answer("trace", verdict["document"])
    assert by_id["page"] == traced["page"]
    aside = modelmill.answer("trace", "chats.jsonl:41")
    assert aside["verdicts"][0]["reasons"] == ["its fields (foo) are of no known format"]
    shown = modelmill("trace", "chats.jsonl:41")
    assert "set aside: its fields (foo) are of no known format" in shown.stdout
    assert modelmill("forget", SENTENCE, "--verify").returncode == 1

    listed = modelmill.answer("forget", "chats.jsonl:8", "--dry-run")
    assert listed["affected"]["pages"] == [traced["page"]]
    assert listed["affected"]["kinds"] == {"corpus": 1, "instructions": 1}
    modelmill.answer("forget", "chats.jsonl:8", "--rebuild", "--purge", "--yes", "--plain")
    assert holding(modelmill.home) == set()
    assert modelmill.answer("forget", SENTENCE, "--verify")["clean"]

    again = modelmill.answer(*arguments)
    assert states(again)["conversations"] == "Completed"
    assert states(again)["tokens"] == "Cached"
    assert holding(modelmill.home) == set()
    told = modelmill.answer("trace", "chats.jsonl:8")
    assert told["verdicts"][0]["reasons"] == ["blocked"]
    assert not told["reached"]


def test_the_stage_alone_reads_files(folder: Path, tmp_path: Path) -> None:
    modelmill = CommandLine(tmp_path / "home")
    files = f"files=[{folder / 'chats.jsonl'}]"
    made = modelmill.answer(
        "stage", "conversations", "--set", files, "--output", str(tmp_path / "corpus")
    )
    assert made["stats"]["conversations"] == 40
    options = (
        "--input",
        f"conversations={tmp_path / 'corpus'}",
        "--output",
        str(tmp_path / "made"),
    )
    asked = modelmill.answer("stage", "instructions", *options)
    assert asked["stats"]["train_conversations"] >= 30
