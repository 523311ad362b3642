"""The site of the documentation, built as ``make docs`` builds it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from lxml import etree, html

from tests.docs.code_blocks import ROOT, code_blocks

pytest.importorskip("sphinx", reason="the extra docs")
FORBIDDEN = """
import socket, sys
def refuse(*arguments):
    raise OSError("the site is built offline")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
"""
"""Read by Python when it starts: any attempt to reach a network is an error."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built in a process without a network."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(FORBIDDEN)
    script = (
        "import pathlib, sys; sys.path.insert(0, 'docs/site'); import build_site; "
        "folder = pathlib.Path(sys.argv[1]); "
        "sys.exit(build_site.build_site(folder / 'source', folder / 'site'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "WARNING" not in done.stderr
    return folder / "site"


def pages_of(site: Path) -> dict[Path, etree._Element]:
    return {path: html.parse(str(path)).getroot() for path in sorted(site.rglob("*.html"))}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_link_and_anchor_of_the_site_leads_somewhere(site: Path) -> None:
    trees = pages_of(site)
    named = {path: set(tree.xpath("//@id | //a/@name")) for path, tree in trees.items()}
    broken, count = [], 0
    for path, tree in trees.items():
        for target in tree.xpath("//a/@href | //img/@src | //script/@src | //link/@href"):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            count += 1
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not file.is_file() or (anchor and file in named and anchor not in named[file]):
                broken.append(f"{path.relative_to(site)}: {target}")
    assert broken == []
    assert count > 10_000
    assert {"index.html", "docs/config.html", "api/index.html", "search.html"} <= {
        str(path.relative_to(site)) for path in trees
    }


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_site_loads_nothing_from_outside(site: Path) -> None:
    loaded = "//script/@src | //link[@rel!='canonical']/@href | //img/@src | //iframe/@src"
    for path, tree in pages_of(site).items():
        outside = [target for target in tree.xpath(loaded) if urlsplit(target).netloc]
        assert outside == [], path
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text(encoding="utf-8").replace('"', "")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_diagram_is_a_picture_in_two_palettes(site: Path) -> None:
    pictures = html.parse(str(site / "index.html")).xpath("//img[contains(@src, 'light.svg')]")
    assert len(pictures) == 1
    drawn = list(site.rglob("*-light.svg"))
    assert len(drawn) == len(list(site.rglob("*-dark.svg"))) == len(code_blocks("mermaid"))
    assert all(b"keep_best" in path.read_bytes() for path in drawn)


@pytest.mark.skipif(importlib.util.find_spec("mermaidx") is None, reason="the extra docs")
@pytest.mark.parametrize("block", code_blocks("mermaid"), ids=str)
def test_a_diagram_is_drawn(block: object) -> None:
    import mermaidx

    assert mermaidx.render(block.text).svg().startswith("<svg")  # type: ignore[attr-defined]
