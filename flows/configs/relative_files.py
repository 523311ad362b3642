"""Users' files of a run: the folder that relative ones start from, and a trial before it runs.

The folder is that of the YAML file which gives them, for ``--set`` the working directory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.clean.conversations.try_files import explain_unusable_file
from components.collect.files.find_files import GlobError, find_files
from components.core.config.config_errors import ConfigSource, Location
from components.core.config.stage_config import parse_assignment
from components.core.errors import ConfigError
from flows.configs.text_run import TextRun

_FILES_FIELD: Location = ("scrape", "files")


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
    """Values of a YAML file whose relative paths of conversations start from its folder.

    Args:
        values: content of the file.
        file: its path.
    """
    instructions = values.get("instructions")
    if not isinstance(instructions, Mapping) or not isinstance(instructions.get("files"), list):
        return dict(values)
    folder = file.absolute().parent
    anchored = [
        str(folder / Path(path).expanduser()) if isinstance(path, str) else path
        for path in instructions["files"]
    ]
    return {**values, "instructions": {**instructions, "files": anchored}}


def try_own_files(run: TextRun, source: ConfigSource) -> None:
    """Try the first rows of each file of conversations.

    Args:
        run: config of the run.
        source: the user's file and assignments, for the error.

    Raises:
        ConfigError: none of a file's is a conversation; names the field, the row and its reason.
    """
    problems: dict[Location, str] = {}
    for index, file in enumerate(run.instructions.files):
        problem = explain_unusable_file(file, run.instructions.max_characters)
        if problem:
            problems["instructions", "files", index] = problem
    if problems:
        raise ConfigError(source.format_problems(problems))


def _gives_files(values: Mapping[str, Any]) -> bool:
    scrape = values.get("scrape")
    return isinstance(scrape, Mapping) and "files" in scrape
