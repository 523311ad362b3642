"""File named in a run's config: written as a path, held together with its digest."""

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


class HashedFile(StageConfig):
    """Path and digest of a file: an edit changes the config, so whatever reads it runs again."""

    model_config = ConfigDict(json_schema_extra={"type": ["object", "string"]})

    path: str = Field(description="path of the file, relative to the current folder")
    sha256: str = Field(description="digest of its content; computed when left out")

    @model_validator(mode="before")
    @classmethod
    def _take_digest(cls, value: Any) -> Any:
        fields = {"path": value} if isinstance(value, str) else value
        if not isinstance(fields, dict) or "sha256" in fields or "path" not in fields:
            return fields
        path = Path(str(fields["path"])).expanduser()
        if not path.is_file():
            raise ValueError(f"{path} is no file")
        return {**fields, "path": str(path.resolve()), "sha256": digest_file(path)}

    @property
    def name(self) -> str:
        """File name, by which rows name their origin."""
        return Path(self.path).name

    def read_content(self, role: str) -> bytes:
        """Read the content.

        Raises:
            DataError: it differs from when the run was planned; names ``role``.
        """
        path = Path(self.path)
        if not path.is_file() or digest_file(path) != self.sha256:
            raise DataError(f"{role}: {self.name} is gone or changed; run again")
        return path.read_bytes()

    def read_json_lines(self, role: str) -> Iterator[tuple[str, Any]]:
        """Decode JSON lines, gzip or plain: (file:line, value or None) of every line not blank.

        Raises:
            DataError: the file changed, or is broken gzip; names ``role``.
        """
        content = self.read_content(role)
        if content[:2] == b"\x1f\x8b":
            try:
                content = gzip.decompress(content)
            except (OSError, EOFError, zlib.error) as error:
                raise DataError(f"{role}: {self.name}: broken gzip: {error}") from error
        for number, line in enumerate(content.decode(errors="replace").split("\n"), start=1):
            if line.strip():
                yield f"{self.name}:{number}", _decode_json(line)


def _decode_json(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
