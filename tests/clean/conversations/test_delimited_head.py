"""A table written as text is named as one; rows of JSON, broken ones too, never are."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from components.clean.conversations.chat_rows.chat_files import read_chat_rows
from components.core.config.hashed_file import HashedFile
from components.core.errors import DataError
from components.core.io.json_values import BrokenJson

ROW = {"question": "Who, when?", "answer": "Ada, 1842."}
LINE = json.dumps(ROW)


def rows_of(path: Path, content: bytes) -> list[object]:
    path.write_bytes(content)
    file = HashedFile.model_validate(str(path))
    rows = read_chat_rows(file, 10_000, path.parent, "preferences")
    return [row.reason if isinstance(row, BrokenJson) else row for _, row in rows]


@pytest.mark.parametrize(
    "content",
    [
        b"question,answer\nWho?,Ada\n",
        b'"question","answer"\r\n"Who, when?","Ada\n1842"\r\n',
        b"\xef\xbb\xbfquestion;answer\nWho?;Ada",
        "question\tanswer\nWho?\tAda\n".encode("utf-16"),
        b",prompt,chosen,rejected\n0,Who?,Ada,Eve\n1,Who?,Eve,Ada\n",
        b'id,messages\n1,"[{""role"": ""user"",\n ""content"": ""Who?""}]"\n',
        gzip.compress(b"question,answer\nWho?,Ada\n", mtime=0),
        b"question,answer\n" + b"Who?,Ada\n" * 20_000,
    ],
)
def test_a_table_written_as_text_is_named(tmp_path: Path, content: bytes) -> None:
    said = r"^preferences\.files: faq\.csv looks like CSV: save it as JSON lines or Parquet$"
    with pytest.raises(DataError, match=said):
        rows_of(tmp_path / "faq.csv", content)


@pytest.mark.parametrize(
    "broken",
    ['{"question": "Who, when?", "answer": }', "{'question': 'Who?', 'answer': 'Ada'}", "a, b"],
)
def test_broken_rows_of_json_are_no_table(tmp_path: Path, broken: str) -> None:
    first, second, third = rows_of(tmp_path / "a.csv", f"{broken}\n{broken}\n{LINE}\n".encode())
    assert str(first).startswith("no JSON") or "cannot" in str(first)
    assert str(second).startswith("no JSON")
    assert third == ROW


@pytest.mark.parametrize(
    "text", ["Dear Ada, hello!\nYours, Eve\n", "alone\nin its column\n", "a,b"]
)
def test_prose_is_no_table(tmp_path: Path, text: str) -> None:
    assert all(
        str(reason).startswith("no JSON") for reason in rows_of(tmp_path / "a", text.encode())
    )
