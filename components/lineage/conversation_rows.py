"""Rows of users' files of conversations, named as a person names them: ``chats.jsonl:17``."""

from __future__ import annotations

import re
from urllib.parse import quote

import pyarrow.compute as pc

from components.core.errors import ConfigError
from components.core.settings import Settings
from components.core.store.artifact import Corpus
from components.core.store.lineage_graph import ArtifactGraph, ArtifactNode
from components.lineage.page_history import read_columns
from components.text.chat.chat_turns import MESSAGES_FILE

_LABEL = re.compile(r"(?:(?P<folder>[^/]+)/)?(?P<row>[^/]+:[0-9]+)")


def holds_conversations(node: ArtifactNode) -> bool:
    """True for a corpus of conversations, False for one of pages."""
    return node.format == Corpus.format and MESSAGES_FILE in node.files


def find_row_address(settings: Settings, typed: str) -> str | None:
    """Address of the row that ``FILE:NUMBER`` names; None where the text typed names none.

    Raises:
        ConfigError: several rows are called so, in files of one name or in versions of a file.
    """
    label = _LABEL.fullmatch(typed.removeprefix("./"))
    if label is None:
        return None
    folder = label["folder"]
    start = f"file:///{quote(folder, safe='')}/" if folder else "file:///"
    addresses: set[str] = set()
    for node in filter(holds_conversations, ArtifactGraph.read(settings.store)):
        for name in (name for name in node.files if name.startswith("ledger/")):
            table = read_columns(settings.store / node.name / name, ["url", "row"])
            urls = table.filter(pc.equal(table["row"], label["row"]))["url"].to_pylist()
            addresses.update(url for url in urls if url.startswith(start))
    if len(addresses) > 1:
        raise ConfigError(f"{typed}: may be {' or '.join(sorted(addresses))}: say which")
    return next(iter(addresses), None)
