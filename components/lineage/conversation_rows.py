"""Rows of users' files of conversations and of judged answers, named as a person names them:
``chats.jsonl:17``.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

import pyarrow.compute as pc

from components.core.errors import ConfigError
from components.core.settings import Settings
from components.core.store.artifact import Corpus
from components.core.store.lineage_graph import ArtifactGraph, ArtifactNode
from components.lineage.page_history import PageQuery, read_columns
from components.text.chat.chat_turns import MESSAGES_FILE
from components.text.chat.judged_prompts import JUDGED_FILE, OWN_ANSWERS_FILE

_LABEL = re.compile(r"(?:(?P<folder>.*)/)?(?P<name>[^/]+):(?P<number>[0-9]+)", re.DOTALL)
"""File and number of a row; an address knows of a path the file's folder and its name."""


def holds_conversations(node: ArtifactNode) -> bool:
    """True for a corpus of conversations."""
    return node.format == Corpus.format and MESSAGES_FILE in node.files


def holds_preferences(node: ArtifactNode) -> bool:
    """True for a corpus of judged answers."""
    return node.format == Corpus.format and JUDGED_FILE in node.files


def holds_rows(node: ArtifactNode) -> bool:
    """True for a corpus of rows of users' files, False for one of pages."""
    return holds_conversations(node) or holds_preferences(node)


def count_judged_answers(
    store: Path, preferences: ArtifactNode, query: PageQuery
) -> dict[str, int]:
    """Count the answers that a row judged, by split.

    Args:
        store: root of the store.
        preferences: a Preferences node.
        query: address of the row.
    """
    counts = {"train": 0, "heldout": 0}
    if OWN_ANSWERS_FILE in preferences.files:
        path = store / preferences.name / OWN_ANSWERS_FILE
        for answer in read_columns(path, ["split", "rows"]).to_pylist():
            counts[answer["split"]] += query.url in answer["rows"]
    return counts


def find_row_address(settings: Settings, typed: str) -> str | None:
    """Address of the row that ``FILE:NUMBER`` names; None where the text typed names none.

    The file is given by its name, with its folder, or by any path to it.

    Raises:
        ConfigError: several rows are called so, in files of one name or in versions of a file.
    """
    label = _LABEL.fullmatch(typed.removeprefix("./"))
    if label is None:
        return None
    name, start = label["name"], "file:///"
    if label["folder"] is not None:
        path = Path(f"{label['folder']}/{name}")
        if path.parts[0] == "~":
            path = path.expanduser()
        path = path.resolve()  # as the run that read the file has it
        name, start = path.name, f"{start}{quote(path.parent.name, safe='')}/"
    row = f"{name}:{label['number']}"
    addresses: set[str] = set()
    for node in filter(holds_rows, ArtifactGraph.read(settings.store)):
        for ledger in (name for name in node.files if name.startswith("ledger/")):
            table = read_columns(settings.store / node.name / ledger, ["url", "row"])
            urls = table.filter(pc.equal(table["row"], row))["url"].to_pylist()
            addresses.update(url for url in urls if url.startswith(start))
    if len(addresses) > 1:
        raise ConfigError(f"{typed}: may be {' or '.join(sorted(addresses))}: say which")
    return next(iter(addresses), None)
