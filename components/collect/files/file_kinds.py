"""Kinds of files by their names: how a file is read, and the media type of its text.

A compression's suffix is no part of the kind: ``a.jsonl.zst`` is JSON lines.
"""

from __future__ import annotations

from enum import Enum

from components.collect.web.media_types import HTML, MARKDOWN, PLAIN, XHTML

_TEXT_SUFFIXES = {
    HTML: ".html .htm .shtml",
    XHTML: ".xhtml .xht",
    PLAIN: ".txt .text .rst .tex .latex .adoc .asciidoc .org",
    MARKDOWN: ".md .markdown .mdown .mkd .mdx .qmd .rmd",
}
MEDIA_TYPES = {
    suffix: media_type
    for media_type, suffixes in _TEXT_SUFFIXES.items()
    for suffix in suffixes.split()
}
"""Media type by suffix of files that are one page: the types that extraction reads."""
DOCUMENT_TYPES = {
    ".pdf": "application/pdf",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".rtf": "application/rtf",
    ".epub": "application/epub+zip",
    ".ipynb": "application/x-ipynb+json",
}
"""Media type by suffix of documents that a converter reads (the extra ``documents``)."""
COMPRESSION_SUFFIXES = (".gz", ".gzip", ".zst", ".zstd", ".bz2", ".xz")
_PACKED_TAR_SUFFIXES = (".tgz", ".taz", ".tbz", ".tb2", ".tbz2", ".tz2", ".txz", ".tzst")
"""Short suffixes of packed TAR archives, as GNU tar knows them."""


class FileKind(Enum):
    """Way in which a file is read."""

    TEXT = "text"
    JSON = "json"
    JSON_LINES = "jsonl"
    COMMA_TABLE = "csv"
    TAB_TABLE = "tsv"
    PARQUET = "parquet"
    ARROW = "arrow"
    WARC = "warc"
    ARC = "arc"
    ZIP = "zip"
    WACZ = "wacz"
    TAR = "tar"
    XML = "xml"
    MHTML = "mhtml"
    MESSAGE = "eml"
    MAILBOX = "mbox"
    DOCUMENT = "document"


_KINDS = {
    **dict.fromkeys(MEDIA_TYPES, FileKind.TEXT),
    **dict.fromkeys(DOCUMENT_TYPES, FileKind.DOCUMENT),
    ".json": FileKind.JSON,
    ".jsonl": FileKind.JSON_LINES,
    ".ndjson": FileKind.JSON_LINES,
    ".jsonlines": FileKind.JSON_LINES,
    ".csv": FileKind.COMMA_TABLE,
    ".tsv": FileKind.TAB_TABLE,
    ".tab": FileKind.TAB_TABLE,
    ".parquet": FileKind.PARQUET,
    ".pq": FileKind.PARQUET,
    ".arrow": FileKind.ARROW,
    ".feather": FileKind.ARROW,
    ".warc": FileKind.WARC,
    ".wet": FileKind.WARC,
    ".arc": FileKind.ARC,
    ".zip": FileKind.ZIP,
    ".wacz": FileKind.WACZ,
    ".tar": FileKind.TAR,
    **dict.fromkeys(_PACKED_TAR_SUFFIXES, FileKind.TAR),
    ".xml": FileKind.XML,
    ".mhtml": FileKind.MHTML,
    ".mht": FileKind.MHTML,
    ".eml": FileKind.MESSAGE,
    ".mbox": FileKind.MAILBOX,
}
_ARCHIVE_COMPRESSION = (*COMPRESSION_SUFFIXES, ".lz4")
READABLE_KINDS = (
    "readable are HTML, text and Markdown, .json, .jsonl, .csv, .tsv, .parquet, .arrow, .warc, "
    ".wet, .arc, .wacz, .zip, .tar, .eml, .mbox, .mhtml, dumps in .xml, and documents (.pdf, "
    ".docx, .pptx, .odt, .rtf, .epub, .ipynb), also with .gz, .zst, .bz2 or .xz"
)


def kind_of_file(name: str) -> FileKind | None:
    """Kind of a file by its name; None where it is not known."""
    plain_name = strip_compression(name)
    kind = _KINDS.get(suffix_of(plain_name))
    if kind is None and name.lower().endswith(_ARCHIVE_COMPRESSION):
        inner = _KINDS.get(suffix_of(name.rpartition(".")[0]))
        return inner if inner in (FileKind.WARC, FileKind.ARC) else None
    return kind


def strip_compression(name: str) -> str:
    """Name of a file in lower case, without the suffix of a compression."""
    lowered = name.lower()
    for suffix in COMPRESSION_SUFFIXES:
        if lowered.endswith(suffix):
            return lowered.removesuffix(suffix)
    return lowered


def suffix_of(name: str) -> str:
    """Last suffix of a name, in lower case with its dot; empty where it has none."""
    stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""
