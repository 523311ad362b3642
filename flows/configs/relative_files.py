"""Users' files of a run: the folder that relative ones start from, and a trial before it runs.

The folder is that of the YAML file which gives them, for ``--set`` the working directory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from components.clean.conversations.chat_rows.conversation import read_conversation
from components.clean.conversations.read_conversations import CONVERSATION_WORDS
from components.clean.conversations.try_files import explain_unusable_file
from components.clean.preferences.judged_row import read_judged_row
from components.clean.preferences.read_preferences import PREFERENCE_WORDS
from components.collect.files.find_files import GlobError, find_files
from components.core.config.config_errors import ConfigSource, Location
from components.core.config.stage_config import parse_assignment
from components.core.errors import ConfigError
from flows.configs.text_run import TextRun

_BASE_PATHS = ("path", "chat_template")
_FILES_FIELD: Location = ("scrape", "files")
_OWN_SECTIONS = ("instructions", "preferences")
"""Parts of a run's config that name files of conversations or judged answers."""


def resolve_file_globs(
    run: TextRun,
    sets: Sequence[str],
    *,
    file: Path | None = None,
    values: Mapping[str, Any] | None = None,
    lines: Mapping[Location, int] | None = None,
) -> TextRun:
    """Set the folder that a run's file globs start from, and try each glob.

    Args:
        run: config of the run.
        sets: assignments of ``--set``.
        file: the YAML file; None for a preset.
        values: content of the file.
        lines: line of each field in the file.

    Raises:
        ConfigError: a glob matches no readable file; names file, line and field.
    """
    if run.scrape.source != "files":
        return run
    from_file = file is not None and _gives_files(values or {})
    if from_file and not any(_gives_files(parse_assignment(s)) for s in sets):
        assert file is not None
        folder = str(file.absolute().parent)
        scrape = run.scrape.model_copy(update={"folder": run.scrape.folder or folder})
        run = run.model_copy(update={"scrape": scrape})
    try:
        find_files(run.scrape.files, run.scrape.folder)
    except GlobError as error:
        at = (*_FILES_FIELD, error.index)
        raise ConfigError(
            ConfigSource(file, lines, sets).format_problems({at: error.problem})
        ) from error
    return run


def anchor_own_files(values: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Values of a YAML file whose relative paths of a base and of rows of your own start from its
    folder.

    Args:
        values: content of the file.
        file: its path.
    """
    folder, anchored = file.absolute().parent, dict(values)
    for section in _OWN_SECTIONS:
        fields = values.get(section)
        if isinstance(fields, Mapping) and isinstance(fields.get("files"), list):
            paths = [_anchor_path(path, folder) for path in fields["files"]]
            anchored[section] = {**fields, "files": paths}
    base = values.get("base")
    if isinstance(base, Mapping):
        own = {name: _anchor_path(base[name], folder) for name in _BASE_PATHS if name in base}
        anchored["base"] = {**base, **own}
    elif base is not None:
        anchored["base"] = _anchor_path(base, folder)
    return anchored


def _anchor_path(path: Any, folder: Path) -> Any:
    return str(folder / Path(path).expanduser()) if isinstance(path, str) else path


def try_own_files(run: TextRun, source: ConfigSource) -> None:
    """Try the first rows of each file of conversations and of judged answers.

    Args:
        run: config of the run.
        source: the user's file and assignments, for the error.

    Raises:
        ConfigError: none of a file's is one; names the field, the row and its reason.
    """
    chats, judged = run.instructions, run.preferences
    read_chat = partial(read_conversation, max_characters=chats.max_characters)
    read_judged = partial(
        read_judged_row, max_characters=judged.max_characters, ratings=judged.ratings
    )
    problems: dict[Location, str] = {}
    for section, read, words in (
        (chats, read_chat, CONVERSATION_WORDS),
        (judged, read_judged, PREFERENCE_WORDS),
    ):
        for index, file in enumerate(section.files):
            problem = explain_unusable_file(file, read, words, section.max_characters)
            if problem:
                problems[words.section, "files", index] = problem
    if problems:
        raise ConfigError(source.format_problems(problems))


def _gives_files(values: Mapping[str, Any]) -> bool:
    scrape = values.get("scrape")
    return isinstance(scrape, Mapping) and "files" in scrape
