"""File named in a run's config: written as a path, held together with its digest."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

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

    @property
    def place(self) -> str:
        """Name in addresses, percent-encoded: that of the file's folder and its own.

        No path of the machine gets into a document, and the same folder elsewhere gives the same.
        """
        path = Path(self.path)
        return "/".join(quote(part, safe="") for part in (path.parent.name, path.name) if part)

    def check_unchanged(self, role: str) -> None:
        """Check that the content is what it was when the run was planned.

        Raises:
            DataError: it is not; names ``role``.
        """
        path = Path(self.path)
        if not path.is_file() or digest_file(path) != self.sha256:
            raise DataError(f"{role}: {self.name} is gone or changed; run again")

    def read_content(self, role: str) -> bytes:
        """Read the content.

        Raises:
            DataError: it differs from when the run was planned; names ``role``.
        """
        self.check_unchanged(role)
        return Path(self.path).read_bytes()

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


def check_names_differ(files: Sequence[HashedFile]) -> Sequence[HashedFile]:
    """Refuse files whose rows would share their addresses.

    Raises:
        ValueError: names two of them.
    """
    paths: dict[str, str] = {}
    for file in files:
        if file.place in paths:
            first = paths[file.place]
            way_on = "rename one" if first != file.path else "give it once"
            names = f"{first} and {file.path} would both be called {file.place}"
            raise ValueError(f"{names}: {way_on}")
        paths[file.place] = file.path
    return files


def _decode_json(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
