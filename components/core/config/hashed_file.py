"""A file that the user names in a run's config: written as a path, held with its digest."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, model_validator

from components.core.config.stage_config import StageConfig
from components.core.errors import DataError
from components.core.store.artifact import digest_file


class NamedFile(StageConfig):
    """Its digest is part of the config, so that an edit runs again whatever reads it."""

    model_config = ConfigDict(json_schema_extra={"type": ["object", "string"]})

    path: str = Field(description="where the file lies; relative to where the command is typed")
    sha256: str = Field(description="its digest; left out, it is taken now")

    @model_validator(mode="before")
    @classmethod
    def _digested(cls, given: Any) -> Any:
        named = {"path": given} if isinstance(given, str) else given
        if not isinstance(named, dict) or "sha256" in named or "path" not in named:
            return named
        path = Path(str(named["path"])).expanduser()
        if not path.is_file():
            raise ValueError(f"{path} is no file")
        return {**named, "path": str(path.resolve()), "sha256": digest_file(path)}

    @property
    def name(self) -> str:
        """The file's own name, to tell where a row came from."""
        return Path(self.path).name

    def read(self, role: str) -> bytes:
        """What the file holds.

        Raises:
            DataError: it is not what it was when the run was planned; names ``role``.
        """
        path = Path(self.path)
        if not path.is_file() or digest_file(path) != self.sha256:
            raise DataError(f"{role}: {self.name} is gone or changed; run again")
        return path.read_bytes()

    def rows(self, role: str) -> Iterator[tuple[str, Any]]:
        """(file:line, decoded JSON or None) of every line that is not blank; gzip or plain.

        Raises:
            DataError: the file changed, or is broken gzip; names ``role``.
        """
        content = self.read(role)
        if content[:2] == b"\x1f\x8b":
            try:
                content = gzip.decompress(content)
            except (OSError, EOFError, zlib.error) as error:
                raise DataError(f"{role}: {self.name}: broken gzip: {error}") from error
        for number, line in enumerate(content.decode(errors="replace").split("\n"), start=1):
            if line.strip():
                yield f"{self.name}:{number}", _decoded(line)


def _decoded(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
