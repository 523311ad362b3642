"""Pages that a Scrapy crawl with its defaults reads, following all links of a site.

    scrapy_crawl.py URL

Prints ``{"texts": [text of a page, …]}``.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

import scrapy
from scrapy.crawler import CrawlerProcess
from scrapy.http import HtmlResponse, Response, TextResponse

TEXTS: list[str] = []


class LinkSpider(scrapy.Spider):  # type: ignore[misc]  # its base is unknown where it is absent
    """Spider of one site: every page's links."""

    name = "links"

    def parse(self, response: Response, **_: Any) -> Iterator[Any]:
        """Note a page's text and follow its links."""
        if isinstance(response, TextResponse):
            TEXTS.append(response.text)
        if isinstance(response, HtmlResponse):
            yield from response.follow_all(css="a")


def main() -> None:
    process = CrawlerProcess({"LOG_ENABLED": False, "TELNETCONSOLE_ENABLED": False})
    process.crawl(LinkSpider, start_urls=[sys.argv[1]])
    process.start()
    sys.stdout.write(json.dumps({"texts": TEXTS}) + "\n")


if __name__ == "__main__":
    main()
