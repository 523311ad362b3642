"""Members of ZIP and TAR archives and of WACZ, each read as the file that it is.

A member's name becomes part of its pages' addresses and is never used as a path. Reading is bounded
as for any compressed stream, and archives in archives by their depth.
"""

from __future__ import annotations

import lzma
import posixpath
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, cast
from urllib.parse import quote

from components.collect.files.file_kinds import COMPRESSION_SUFFIXES, FileKind, kind_of_file
from components.collect.files.file_source import FileSource, PlacedResult, ReadSettings
from components.collect.files.walk_folders import is_hidden_name
from components.core.io.decompress import BrokenStream, check_bomb, open_decompressed

MAX_DEPTH = 3
"""Archives in archives."""
_ERRORS = (
    zipfile.BadZipFile,
    tarfile.TarError,
    NotImplementedError,
    RuntimeError,  # an encrypted member
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
)
_WACZ_ARCHIVES = "archive/"
"""Folder of a WACZ file's WARC files (WACZ 1.1.1, section 5.2.1)."""
ReadMember = Callable[[FileSource, ReadSettings], Iterator[PlacedResult]]
MemberOrRejection = FileSource | PlacedResult


def read_archive(
    source: FileSource, settings: ReadSettings, read_member: ReadMember
) -> Iterator[PlacedResult]:
    """Read the pages of all members.

    Args:
        source: The archive.
        settings: Bounds and fields.
        read_member: Reads a member.
    """
    for member in list_members(source, settings.scratch):
        if isinstance(member, FileSource):
            yield from read_member(member, settings)
        else:
            yield member


def list_members(source: FileSource, scratch: Path) -> Iterator[MemberOrRejection]:
    """Members of an archive in turn, each to be read before the next; or why one is not read."""
    if source.depth >= MAX_DEPTH:
        yield source.reject(f"lies in more than {MAX_DEPTH} archives")
        return
    names = _MemberNames()
    try:
        if source.kind is FileKind.TAR:
            yield from _tar_members(source, names)
        else:
            with source.as_local_file(scratch) as path:
                yield from _zip_members(source, path, names)
    except BrokenStream as error:
        yield source.reject(f"{error}; what follows in it is not read")
    except _ERRORS as error:
        yield source.reject(f"cannot be read as an archive: {_first_line(error)}")


class _MemberNames:
    """Names of an archive's members, told apart: archives may hold several files of one."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take_name(self, name: str) -> str:
        """Percent-encoded name of a member; ``a (2).md`` for the second ``a.md``."""
        stem, suffix = posixpath.splitext("/".join(_name_parts(name)))
        if suffix.lower() in COMPRESSION_SUFFIXES:  # a.jsonl.gz
            stem, inner = posixpath.splitext(stem)
            suffix = f"{inner}{suffix}"
        encoded, count = member_name(name), 1
        while encoded in self._taken:
            count += 1
            encoded = member_name(f"{stem} ({count}){suffix}")
        self._taken.add(encoded)
        return encoded


def _zip_members(
    source: FileSource, path: Path, names: _MemberNames
) -> Iterator[MemberOrRejection]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            if source.kind is FileKind.WACZ and not entry.filename.startswith(_WACZ_ARCHIVES):
                continue  # indexes and lists of its own pages, all of them in its archives
            if entry.flag_bits & 0x1:
                name = names.take_name(entry.filename)
                yield source.member(name, FileKind.TEXT, _refuse_open).reject(
                    "is encrypted in its archive"
                )
                continue
            opener = partial(_open_member, partial(archive.open, entry), entry.compress_size)
            yield _member_or_rejection(source, entry.filename, opener, names)


def _refuse_open() -> BinaryIO:
    raise BrokenStream("cannot be opened")


class _MemberStream:
    """Stream of a member that is checked for being a bomb, and breaks with a reason."""

    def __init__(self, open_member: Callable[[], IO[bytes]], packed_bytes: int | None) -> None:
        self._packed_bytes = packed_bytes
        try:
            self._stream = open_member()
        except _ERRORS as error:
            raise BrokenStream(f"cannot be read in its archive: {_first_line(error)}") from error
        self._read_bytes = 0

    def __enter__(self) -> _MemberStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def read(self, size: int = -1) -> bytes:
        """Read bytes.

        Raises:
            BrokenStream: the member is broken, or a bomb.
        """
        try:
            content = self._stream.read(size)
        except _ERRORS as error:
            raise BrokenStream(f"is broken in its archive: {_first_line(error)}") from error
        self._read_bytes += len(content)
        if self._packed_bytes is not None:
            check_bomb(self._read_bytes, self._packed_bytes)
        return content


def _open_member(open_member: Callable[[], IO[bytes]], packed_bytes: int | None) -> BinaryIO:
    return cast(BinaryIO, _MemberStream(open_member, packed_bytes))


def _tar_members(source: FileSource, names: _MemberNames) -> Iterator[MemberOrRejection]:
    with (
        source.open_raw() as raw,
        open_decompressed(raw) as stream,
        tarfile.open(fileobj=stream, mode="r|") as archive,
    ):
        for entry in archive:
            if entry.isdir():
                continue
            if not entry.isreg():
                name = names.take_name(entry.name)
                yield source.member(name, FileKind.TEXT, _refuse_open).reject(
                    "a link or device in an archive", failed=False
                )
                continue
            opener = partial(_open_member, partial(_extract_file, archive, entry), None)
            yield _member_or_rejection(source, entry.name, opener, names)


def _extract_file(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(entry)
    assert content is not None  # a regular file has content
    return content


def _member_or_rejection(
    source: FileSource, name: str, opener: Callable[[], BinaryIO], names: _MemberNames
) -> MemberOrRejection:
    parts = _name_parts(name)
    kind = kind_of_file(parts[-1]) if parts else None
    member = source.member(names.take_name(name), kind or FileKind.TEXT, opener)
    if any(is_hidden_name(part) for part in parts):
        return member.reject("a hidden file", failed=False)
    return member if kind is not None else member.reject("its kind is not known", failed=False)


def member_name(name: str) -> str:
    """Percent-encoded name of a member, without what would lead out of its archive."""
    return quote("/".join(_name_parts(name)).encode("utf-8", errors="surrogateescape"))


def _name_parts(name: str) -> list[str]:
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
