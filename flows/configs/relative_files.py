"""Where a run's own files are looked for: relative globs start from the folder of the YAML file
that gives them, those of ``--set`` from the folder the command is typed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.collect.local_files import GlobError, find_files
from components.core.config.config_errors import Location, Source
from components.core.config.stage_config import parse_assignment
from components.core.errors import ConfigError
from flows.configs.text_run import TextRun

_FIELD: Location = ("scrape", "files")


def with_own_files(
    run: TextRun,
    sets: Sequence[str],
    *,
    file: Path | None = None,
    values: Mapping[str, Any] | None = None,
    lines: Mapping[Location, int] | None = None,
) -> TextRun:
    """``run`` with the folder that its globs start from, each of them tried.

    Raises:
        ConfigError: a glob gives no readable file; names file, line and field.
    """
    if run.scrape.source != "files":
        return run
    from_file = file is not None and _gives_files(values or {})
    if from_file and not any(_gives_files(parse_assignment(given)) for given in sets):
        assert file is not None
        folder = str(file.absolute().parent)
        scrape = run.scrape.model_copy(update={"folder": run.scrape.folder or folder})
        run = run.model_copy(update={"scrape": scrape})
    try:
        find_files(run.scrape.files, run.scrape.folder)
    except GlobError as error:
        at = (*_FIELD, error.index)
        raise ConfigError(Source(file, lines, sets).tell({at: error.what})) from error
    return run


def _gives_files(values: Mapping[str, Any]) -> bool:
    scrape = values.get("scrape")
    return isinstance(scrape, Mapping) and "files" in scrape
