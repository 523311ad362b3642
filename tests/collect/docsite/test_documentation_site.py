"""The embedded documentation site: what it serves, and that nothing of the machine is in it."""

from __future__ import annotations

import http.client
import re
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
from pydantic import ValidationError

from components.collect.docsite.anonymize import Anonymizer
from components.collect.docsite.documentation_site import DocumentationSite, SiteConfig
from components.collect.docsite.module_index import find_modules

SMALL = SiteConfig(packages=["json", "html", "asyncio", "sqlite3"])


@pytest.fixture(scope="module")
def site() -> Iterator[DocumentationSite]:
    with DocumentationSite(SMALL) as opened:
        yield opened


def get(site: DocumentationSite, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(*site.address, timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", path, headers=named)
    response = connection.getresponse()
    response.text = response.read().decode()  # type: ignore[attr-defined]
    connection.close()
    return response


def body(site: DocumentationSite, path: str) -> str:
    status, _, text = site.build_response(path)
    assert status is HTTPStatus.OK
    return text


def test_page_holds_name_signature_and_description(site: DocumentationSite) -> None:
    page = body(site, "/json.html")
    assert '<h2 id="dumps">json.dumps</h2>\n<pre><code class="language-python">def dumps(' in page
    assert "<p>Serialize <code>obj</code> to a JSON formatted <code>str</code>.</p>" in page
    assert "<h1>json</h1>" in page
    assert "View Source" not in page
    for part in ("<header>", "<nav", "<aside>", "<footer>"):
        assert part in page


def test_members_stand_on_the_page_of_their_own_module(site: DocumentationSite) -> None:
    assert "json.JSONDecoder.decode" not in body(site, "/json.html")
    assert "json.decoder.JSONDecoder.decode" in body(site, "/json.decoder.html")
    # Inherited members are shown where they are defined alone.
    assert "asyncio.tasks.Task.add_done_callback" not in body(site, "/asyncio.tasks.html")


def test_entity_tags_are_answered(site: DocumentationSite) -> None:
    first = get(site, "/json.html")
    assert first.status == 200
    tag = first.headers["ETag"]
    again = get(site, "/json.html", If_None_Match=tag)
    assert (again.status, again.text, again.headers["ETag"]) == (304, "", tag)  # type: ignore[attr-defined]
    assert get(site, "/json.html", If_None_Match='"other"').status == 200
    moment = first.headers["Last-Modified"]
    assert get(site, "/json.html", If_Modified_Since=moment).status == 304


def test_robots_sitemap_and_index(site: DocumentationSite) -> None:
    assert "Disallow: /print/" in body(site, "/robots.txt")
    assert "<loc>http://docs.modelmill.local/json.decoder.html</loc>" in body(site, "/sitemap.xml")
    assert '<a href="/json.decoder.html">' in body(site, "/")
    # The forbidden branch is real, and every page links to its twin there.
    assert 'href="/print/json.html"' in body(site, "/json.html")
    assert "json.dumps" in body(site, "/print/json.html")
    assert "<nav" not in body(site, "/print/json.html")


def test_unknown_pages_and_modules_that_fail(site: DocumentationSite) -> None:
    assert site.build_response("/nothing.html")[0] is HTTPStatus.NOT_FOUND
    assert site.build_response("/../etc/passwd")[0] is HTTPStatus.NOT_FOUND
    status, _, why = site.build_response("/asyncio.windows_events.html")
    assert status is HTTPStatus.NOT_FOUND
    assert "win32 only" in why
    assert "win32 only" in site.skipped()["asyncio.windows_events"]


def test_nothing_of_the_machine_is_in_a_page(site: DocumentationSite) -> None:
    pages = [site.build_response(f"/{module}.html")[2] for module in site.modules]
    everything = "\n".join(pages)
    assert len(pages) > 30
    assert not re.search(r" at 0x[0-9a-f]+", everything)
    for path in {sys.prefix, sys.base_prefix, str(Path.home()), str(Path.cwd())}:
        if path not in ("/root", "/usr", "/usr/local"):
            assert path not in everything


def test_pages_are_equal_from_run_to_run(site: DocumentationSite) -> None:
    # Fresh workers; frozen sets, addresses and disguised mail would differ between them.
    with DocumentationSite(SMALL) as other:
        for module in other.modules:
            assert other.build_response(f"/{module}.html") == site.build_response(f"/{module}.html")


def test_rendered_groups_are_kept(tmp_path: Path) -> None:
    config = SiteConfig(packages=["html"])
    with DocumentationSite(config, folder=tmp_path) as first:
        page = first.build_response("/html.entities.html")
        assert first.build_response("/html.parser.html")[0] is HTTPStatus.OK
    kept = tmp_path / "html.json"
    assert kept.exists()
    kept.write_text(kept.read_text().replace("HTML", "XXXX"))
    with DocumentationSite(config, folder=tmp_path) as second:
        assert "XXXX" in second.build_response("/html.html")[2]
    assert page[0] is HTTPStatus.OK


def test_a_module_that_fails_or_blocks_its_worker_is_skipped(tmp_path: Path) -> None:
    from components.collect.docsite.page_renderer import PageRenderer

    groups = {"this": ["this", "nowhere_to_be_found"], "json": ["json"]}
    with PageRenderer(groups, workers=1, module_seconds=30) as renderer:
        good = renderer.wait_for_module("json", 30)
        missing = renderer.wait_for_module("nowhere_to_be_found", 30)
        assert good is not None
        assert good.parts
        assert missing is not None
        assert "No module named" in missing.reason
        worker = renderer._workers[0]
        assert worker._process is None or worker._process.poll() is None
    with PageRenderer({"json": ["json", "json.tool"]}, workers=1, module_seconds=1e-6) as renderer:
        slow = renderer.wait_for_module("json.tool", 30)
        assert slow is not None
        assert "took" in slow.reason


def test_long_modules_are_cut_into_pages_that_link_to_each_other() -> None:
    with DocumentationSite(SiteConfig(packages=["socket", "typing", "builtins"])) as site:
        first, second = body(site, "/builtins.html"), body(site, "/builtins-2.html")
        assert 'href="/builtins-2.html"' in first
        assert "<h1>builtins</h1>" in second
        names = re.findall(r"<h[2-5] id=[^>]*>([^<]+)", first + second)
        assert len(names) == len(set(names))
        assert site.build_response("/builtins-99.html")[0] is HTTPStatus.NOT_FOUND


def test_find_modules_leaves_out_private_and_excluded() -> None:
    groups = find_modules(["json", "xml"], ["dom", "xml.etree"])
    assert groups["json"] == ["json", "json.decoder", "json.encoder", "json.scanner", "json.tool"]
    assert not [name for name in groups["xml"] if "dom" in name or "etree" in name]
    assert "xml.sax.handler" in groups["xml"]
    every = find_modules(["stdlib"], ["test"])
    assert len(every) > 150
    assert "test" not in every
    assert not [name for name in every if name.startswith("_")]


def test_config_names_a_package_that_is_not_installed() -> None:
    with pytest.raises(ValidationError, match="'no_such_package' is no installed"):
        SiteConfig(packages=["no_such_package"])


def test_scrubber() -> None:
    scrubber = Anonymizer(["/opt/py", "/opt/py/lib/site", "host7"])
    text = "<f at 0x7f12ab> in /opt/py/lib/site/x.py on host7, mask 0x12345678"
    assert scrubber.anonymize_text(text) == "<f> in …/x.py on …, mask 0x12345678"
