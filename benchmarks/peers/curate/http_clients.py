"""Pages that an HTTP client with its defaults reads, each fetched by itself, redirects followed.

    http_clients.py CLIENT URLS.json

``CLIENT`` is ``requests`` or ``pycurl``; ``URLS.json`` a list. Prints ``{"texts": [text, …]}``.
"""

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path


def read_with_requests(urls: Iterable[str]) -> Iterator[str]:
    """Texts as requests decodes them; a session keeps cookies."""
    import requests

    with requests.Session() as session:
        for url in urls:
            with contextlib.suppress(requests.RequestException, ValueError):
                answer = session.get(url, timeout=10)
                if answer.ok:
                    yield answer.text


def read_with_pycurl(urls: Iterable[str]) -> Iterator[str]:
    """Texts of bodies that libcurl has decoded; one handle keeps cookies."""
    import pycurl

    with pycurl.Curl() as curl:
        for option, value in (
            (pycurl.FOLLOWLOCATION, True),
            (pycurl.ACCEPT_ENCODING, ""),
            (pycurl.COOKIEFILE, ""),
            (pycurl.TIMEOUT, 10),
            (pycurl.PROXY, ""),
        ):
            curl.setopt(option, value)
        for url in urls:
            body = bytearray()
            curl.setopt(pycurl.URL, url)
            curl.setopt(pycurl.WRITEFUNCTION, body.extend)
            with contextlib.suppress(pycurl.error):
                curl.perform()
                if curl.getinfo(pycurl.RESPONSE_CODE) < 400:
                    yield body.decode("utf-8", errors="replace")


CLIENTS = {"requests": read_with_requests, "pycurl": read_with_pycurl}


def main() -> None:
    urls = json.loads(Path(sys.argv[2]).read_bytes())
    texts = list(CLIENTS[sys.argv[1]](urls))
    sys.stdout.write(json.dumps({"texts": texts}) + "\n")


if __name__ == "__main__":
    main()
