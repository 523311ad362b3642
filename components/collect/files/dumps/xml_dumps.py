"""Pages of XML dumps, read as a stream: MediaWiki's exports, and Stack Exchange's ``Posts.xml``.

A page is as large as libxml2's bound on one text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import PurePosixPath
from urllib.parse import quote, unquote

from lxml import etree

from components.collect.files.converters.conversion_pool import missing_converter
from components.collect.files.converters.convert_document import WIKITEXT_TYPE, Conversion
from components.collect.files.dumps.xml_records import BrokenRecord, XmlRecords
from components.collect.files.file_source import FileSource, PlacedResult, ReadSettings
from components.collect.files.rows.row_pages import row_address, text_pages
from components.core.io.decompress import BrokenStream

_HOST = re.compile(r"(?:[a-z0-9-]+\.)+[a-z]{2,}")
_QUESTION, _ANSWER = "1", "2"
_PROSE_MODELS = ("wikitext", "text/x-wiki", "")
_BASE = re.compile(r"<(?:\w+:)?base>\s*([^<]*?)/[^</]*</")
"""Address of a wiki's main page, in the head of its dump: those of all pages but their names."""


def read_xml_dump(source: FileSource, settings: ReadSettings) -> Iterator[PlacedResult]:
    """Read the pages of a dump; any other XML is set aside with its root element."""
    with source.open_stream() as stream:
        try:
            records = XmlRecords(stream)
        except etree.XMLSyntaxError as error:
            reason = str(error).partition("\n")[0]
            yield source.reject(f"cannot be read as XML: {reason}")
            return
        read = _READERS.get(records.root_name)
        if read is None:
            reason = f"no dump that is known: its root element is {records.root_name!r}"
            yield source.reject(reason, failed=False)
            return
        try:
            yield from read(source, records, settings)
        except BrokenStream as error:
            yield source.reject(f"{error}; what follows is not read")


def _local_name(element: etree._Element) -> str:
    return etree.QName(element).localname


def _release(element: etree._Element) -> None:
    """Free an element and those before it."""
    element.clear()
    parent = element.getparent()
    while parent is not None and element.getprevious() is not None:
        del parent[0]


def _read_mediawiki(
    source: FileSource, records: XmlRecords, settings: ReadSettings
) -> Iterator[PlacedResult]:
    """Articles of a wiki: the newest revision of each page of the main namespace."""
    if reason := missing_converter("wikitext"):
        yield source.reject(reason)
        return
    left_out: Counter[str] = Counter()
    broken: list[BrokenRecord] = []
    tasks = _wiki_articles(source, records, left_out, broken)
    for task, converted in settings.conversions.convert_all(tasks):
        mark = quote(task.title.replace(" ", "_"))
        if isinstance(converted, str):
            yield source.reject(converted, mark=mark)
        elif not converted.text.strip():
            yield source.reject("an empty page", failed=False, mark=mark)
        else:
            text = f"# {task.title}\n\n{converted.text}"
            address = row_address(task.url, task.place)
            yield from text_pages(task.place, address, text, settings, title=task.title)
    for record in broken:  # behind the articles, which come later with more workers
        yield source.reject(record.reason, mark=quote(record.name.replace(" ", "_")))
    for reason, count in sorted(left_out.items()):
        yield source.reject(f"{count} {reason} left out", failed=False, mark=reason.split()[-1])


def _wiki_articles(
    source: FileSource,
    records: XmlRecords,
    left_out: Counter[str],
    broken: list[BrokenRecord],
) -> Iterator[Conversion]:
    text, model, revision_time = "", "", ""
    for element in records.read_elements("page"):
        if isinstance(element, BrokenRecord):
            broken.append(element)
            text, model, revision_time = "", "", ""
            continue
        name = _local_name(element)
        if name == "revision":
            moment = element.findtext("{*}timestamp") or ""
            if moment >= revision_time:  # a dump with the history holds several
                revision_time = moment
                text = element.findtext("{*}text") or ""
                model = element.findtext("{*}model") or element.findtext("{*}format") or ""
            element.clear()
        elif name == "page":
            title = element.findtext("{*}title") or ""
            namespace = element.findtext("{*}ns") or "0"
            is_redirect = element.find("{*}redirect") is not None
            if namespace != "0":
                left_out[f"pages of namespace {namespace}"] += 1
            elif is_redirect or text.lstrip()[:9].upper() == "#REDIRECT":
                left_out["redirects"] += 1
            elif model not in _PROSE_MODELS:
                left_out[f"pages in {model}"] += 1
            else:
                path = quote(title.replace(" ", "_"), safe="/:,()!*'~-._")
                base = _BASE.search(records.head)
                url = f"{unescape(base[1])}/{path}" if base else ""
                place = f"{source.address}#{quote(title.replace(' ', '_'))}"
                yield Conversion(place, text.encode(errors="replace"), WIKITEXT_TYPE, title, url)
            text, model, revision_time = "", "", ""
            _release(element)


def _read_posts(
    source: FileSource, records: XmlRecords, settings: ReadSettings
) -> Iterator[PlacedResult]:
    """Questions and answers of a forum, each a page."""
    left_out: Counter[str] = Counter()
    site = _site_host(source)
    for element in records.read_elements("row"):
        if isinstance(element, BrokenRecord):
            yield source.reject(element.reason, mark=quote(element.name))
            continue
        if _local_name(element) != "row":
            continue
        kind, number = element.get("PostTypeId", ""), element.get("Id", "")
        body, title = element.get("Body", ""), element.get("Title", "")
        _release(element)
        if kind not in (_QUESTION, _ANSWER):
            left_out[f"posts of type {kind or '?'}"] += 1
            continue
        place = f"{source.address}#{quote(number)}"
        if not body.strip():
            yield source.reject("an empty page", failed=False, mark=quote(number))
            continue
        letter = "q" if kind == _QUESTION else "a"
        url = f"https://{site}/{letter}/{number}" if site and number.isdigit() else ""
        address = row_address(url, place)
        yield from text_pages(place, address, body, settings, title=title, is_html=True)
    for reason, count in sorted(left_out.items()):
        yield source.reject(f"{count} {reason} left out", failed=False, mark=reason.split()[-1])


def _site_host(source: FileSource) -> str:
    """Host of a forum, where the folder or archive of its dump is named by it; else empty."""
    names = [unquote(name).lower() for name in PurePosixPath(source.name).parts[:-1]]
    for name in reversed([*names, source.folder_name.lower()]):
        stem = name.removesuffix(".7z").removesuffix(".zip").removesuffix("-posts")
        if _HOST.fullmatch(stem) and stem.endswith((".com", ".net", ".org")):
            return stem
    return ""


_Reader = Callable[[FileSource, XmlRecords, ReadSettings], Iterator[PlacedResult]]
_READERS: dict[str, _Reader] = {"mediawiki": _read_mediawiki, "posts": _read_posts}
