"""Code on documentation pages: kept letter by letter, or not.

The pages are those of the embedded site, so what stands in each ``<pre>`` is known from the source
itself, read by the standard library's parser and not by ours.
"""

from __future__ import annotations

from html.parser import HTMLParser
from http import HTTPStatus

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from components.collect.docsite.documentation_site import DocumentationSite, SiteConfig
from components.collect.extraction.main_text import extract_main_text

PAGES = 100
PACKAGES = ["networkx", "jinja2", "click", "werkzeug", "tornado", "rich"]
AT_LEAST = 0.99


def measure(setting: BenchSetting) -> list[BenchFigure]:
    """The share of code blocks that come out word for word."""
    config = SiteConfig(packages=PACKAGES, workers=1)
    blocks = kept = pages = 0
    with DocumentationSite(config, folder=setting.scratch) as site:
        for module in site.modules:
            status, kind, page = site.build_response(f"/{module}.html")
            known = pre_texts(page) if status is HTTPStatus.OK else []
            if not known:
                continue
            found = extract_main_text(page, kind, module).code
            blocks += len(known)
            kept += sum(block in found for block in known)
            pages += 1
            if pages == PAGES:
                break
    note = f"{kept} of {blocks} blocks on {pages} pages"
    name, share = "code blocks kept word for word", kept / max(blocks, 1)
    return [BenchFigure.against_target(name, share, "", AT_LEAST, better="higher", note=note)]


def pre_texts(page: str) -> list[str]:
    """What every ``<pre>`` holds, without the line ends around it that HTML does not show."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return [text for text in reader.found if text.strip()]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "pre":
            self._inside = True
            self.found.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre" and self._inside:
            self._inside = False
            self.found[-1] = self.found[-1].removeprefix("\n").rstrip("\n")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found[-1] += data
