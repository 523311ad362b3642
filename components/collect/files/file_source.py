"""Source of bytes to read pages from: a file, or a member of an archive, with its place.

Readers that need the whole of a compressed file, or of a member, get it as a temporary file.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from components.collect.crawl.fetch_ledger import LedgerEntry
from components.collect.files.converters.conversion_pool import ConversionPool
from components.collect.files.file_kinds import FileKind, kind_of_file
from components.collect.warc.page_shards import WebPage
from components.collect.warc.revisit_records import RevisitResolver
from components.core.io.decompress import open_decompressed
from components.core.io.utf8_stream import open_utf8

PageOrRejection = WebPage | LedgerEntry
"""A page, or the ledger entry with the reason for which there is none."""
PlacedResult = tuple[str, PageOrRejection]
"""Place in the user's files as an address, and what was read there."""


@dataclass(frozen=True)
class ReadSettings:
    """Bounds and fields by which files are read."""

    max_bytes: int
    """Largest HTML page, and largest row's text in its encoding."""
    part_bytes: int
    """Longest text that stays whole."""
    scratch: Path
    """Folder for temporary files."""
    revisits: RevisitResolver
    conversions: ConversionPool
    date: str = ""
    """Date of pages that have none of their own."""
    text_field: str = ""
    url_field: str = ""
    title_field: str = ""


@dataclass(frozen=True)
class FileSource:
    """A file or member of a known kind."""

    name: str
    """Percent-encoded path by which its pages are addressed."""
    kind: FileKind
    open_raw: Callable[[], BinaryIO]
    """Opens its bytes as they are stored."""
    path: Path | None = None
    """None for a member of an archive."""
    depth: int = 0
    """Archives that it lies in."""
    folder_name: str = field(default="")
    """Name of the folder or archive that holds it."""

    @classmethod
    def from_path(cls, name: str, path: Path) -> FileSource:
        """Source for a file of a known kind."""
        kind = kind_of_file(path.name)
        assert kind is not None  # find_files leaves no other
        return cls(name, kind, lambda: path.open("rb"), path, folder_name=path.parent.name)

    @property
    def address(self) -> str:
        """Address of the file as a page."""
        return f"file:///{self.name}"

    def reject(self, reason: str, *, failed: bool = True, mark: str = "") -> PlacedResult:
        """Ledger entry for the file, or the place ``mark`` in it.

        Args:
            reason: Why there is no page.
            failed: True where there should have been one.
            mark: Fragment of the place.
        """
        place = f"{self.address}#{mark}" if mark else self.address
        return place, LedgerEntry(place, reason=reason, failed=failed)

    @contextmanager
    def open_stream(self) -> Iterator[BinaryIO]:
        """Open the decompressed content; reading may raise ``BrokenStream``."""
        with self.open_raw() as raw, open_decompressed(raw) as stream:
            yield stream

    @contextmanager
    def open_text(self) -> Iterator[BinaryIO]:
        """Open the decompressed content as UTF-8 where a byte order mark names its encoding."""
        with self.open_stream() as stream:
            yield open_utf8(stream)

    @contextmanager
    def as_local_file(self, scratch: Path, *, decompressed: bool = True) -> Iterator[Path]:
        """Path of a file with the content, a temporary one where there is none as it is needed.

        Args:
            scratch: Folder for a temporary file.
            decompressed: Without the compression of the file.

        Raises:
            BrokenStream: The stream is broken.
        """
        if self.path is not None and not (decompressed and self._is_compressed()):
            yield self.path
            return
        suffix = "".join(Path(self.name).suffixes[-2:]) if not decompressed else ""
        opener = self.open_stream() if decompressed else self.open_raw()
        with (
            tempfile.NamedTemporaryFile(dir=scratch, prefix="file-", suffix=suffix) as copy,
            opener as stream,
        ):
            shutil.copyfileobj(stream, copy, 1 << 20)
            copy.flush()
            yield Path(copy.name)

    def _is_compressed(self) -> bool:
        with self.open_raw() as raw, open_decompressed(raw) as stream:
            return stream is not raw

    def member(
        self, member_name: str, kind: FileKind, open_raw: Callable[[], BinaryIO]
    ) -> FileSource:
        """Source for a member of this archive.

        Args:
            member_name: Its percent-encoded path in the archive.
            kind: Its kind.
            open_raw: Opens its bytes.
        """
        return replace(
            self,
            name=f"{self.name}/{member_name}",
            kind=kind,
            open_raw=open_raw,
            path=None,
            depth=self.depth + 1,
            folder_name=Path(self.name).name,
        )
