"""Share of code blocks on documentation pages that extraction keeps verbatim.

The pages are those of the embedded documentation site. The true text of each ``<pre>`` is read by
the standard library's HTML parser and not by ours.
"""

from __future__ import annotations

from html.parser import HTMLParser
from http import HTTPStatus

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from components.collect.docsite.documentation_site import DocumentationSite, SiteConfig
from components.collect.extraction.main_text import extract_main_text
from components.collect.web.media_types import HTML

PAGES = 100
PACKAGES = ["networkx", "jinja2", "click", "werkzeug", "tornado", "rich"]
LEAST_SHARE = 0.99


def measure_code_blocks(setting: BenchSetting) -> list[BenchFigure]:
    """Share of code blocks that the extracted code holds verbatim."""
    config = SiteConfig(packages=PACKAGES, workers=1)
    blocks = verbatim = pages = 0
    with DocumentationSite(config, folder=setting.scratch) as site:
        for module in site.modules:
            status, _, page = site.build_response(f"/{module}.html")
            true_blocks = read_pre_blocks(page) if status is HTTPStatus.OK else []
            if not true_blocks:
                continue
            code = extract_main_text(page, HTML, module).code
            blocks += len(true_blocks)
            verbatim += sum(block in code for block in true_blocks)
            pages += 1
            if pages == PAGES:
                break
    note = f"{verbatim} of {blocks} blocks on {pages} pages"
    name, share = "code blocks kept word for word", verbatim / max(blocks, 1)
    return [BenchFigure.against_target(name, share, "", LEAST_SHARE, better="higher", note=note)]


def read_pre_blocks(page: str) -> list[str]:
    """Text of every ``<pre>``, without the line breaks at its ends, which HTML does not render."""
    reader = _PreReader()
    reader.feed(page)
    reader.close()
    return [text for text in reader.texts if text.strip()]


class _PreReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "pre":
            self._inside = True
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre" and self._inside:
            self._inside = False
            self.texts[-1] = self.texts[-1].removeprefix("\n").rstrip("\n")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[-1] += data
