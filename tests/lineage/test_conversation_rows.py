"""A row of a user's file is found by the file's name, with its folder or by any path to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from components.clean.conversations.conversations_config import ConversationsConfig
from components.clean.conversations.read_conversations import read_conversations
from components.core.config.hashed_file import HashedFile
from components.core.errors import ConfigError
from components.core.settings import Settings
from components.core.store.workdir import Workdir
from components.lineage.conversation_rows import find_row_address


@pytest.fixture
def settings(
    tmp_path: Path, again: Callable[[], Workdir], monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """A workspace that read ``data/deep/my own/chats.jsonl`` and another file of that name."""
    files = []
    for folder, texts in (("my own", ("Where?", "When?")), ("other", ("Who?",))):
        path = tmp_path / "data/deep" / folder / "chats.jsonl"
        path.parent.mkdir(parents=True)
        rows = [{"question": f"{text} {n}", "answer": f"{n}."} for n, text in enumerate(texts)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        files.append(HashedFile.model_validate(str(path)))
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "data/deep/my own/chats.jsonl")
    config = ConversationsConfig(files=tuple(files), heldout_share=0)
    read_conversations(config, again())
    monkeypatch.chdir(tmp_path / "data")
    return Settings(home=tmp_path, reference_data=tmp_path)


def test_any_path_to_the_file_names_its_row(settings: Settings, tmp_path: Path) -> None:
    address = find_row_address(settings, "my own/chats.jsonl:1")
    assert address is not None
    assert address.startswith("file:///my%20own/chats.jsonl#")
    for typed in (
        "./my own/chats.jsonl:1",
        "deep/my own/chats.jsonl:1",
        "./deep/my own/chats.jsonl:1",
        "deep/other/../my own/chats.jsonl:1",
        "../link.jsonl:1",
        "/gone/long ago/my own/chats.jsonl:1",
        f"{tmp_path}/data/deep/my own/chats.jsonl:1",
    ):
        assert find_row_address(settings, typed) == address
    second = find_row_address(settings, "chats.jsonl:2")
    assert second == find_row_address(settings, f"{tmp_path}/data/deep/my own/chats.jsonl:2")
    assert second != address


def test_another_files_row_is_not_taken(settings: Settings, tmp_path: Path) -> None:
    assert find_row_address(settings, f"{tmp_path}/data/deep/other/chats.jsonl:2") is None
    assert find_row_address(settings, f"{tmp_path}/data/deep/chats.jsonl:1") is None
    assert find_row_address(settings, "https.example/a/b:80") is None
    with pytest.raises(ConfigError, match=r"^chats\.jsonl:1: may be file:///my%20own/\S+ or file"):
        find_row_address(settings, "chats.jsonl:1")
