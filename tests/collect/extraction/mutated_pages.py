"""Pages and what chance makes of them: cut, repeated, mixed, with bytes changed."""

from __future__ import annotations

import gzip
import os
import random
from collections.abc import Iterator
from pathlib import Path

SENTENCE = "The council said on Tuesday that the bridge, which is old, will be closed to cars. "
PAGES = (
    '<html lang="en"><head><title>Old bridge</title><meta property="og:type" content="article">'
    f"</head><body><nav><a href='/'>Home</a></nav><h1>Old bridge</h1>{f'<p>{SENTENCE * 3}</p>' * 6}"
    "<table><tr><td rowspan=2>a<td>b</table><ul><li>x<ol><li>y</ol></ul><pre>a\n  b</pre>"
    '<script type="math/tex">x^2</script></body></html>',
    '<?xml version="1.0"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "x.dtd"><html '
    f'xmlns="http://www.w3.org/1999/xhtml"><body><div/><p>a<br/>{SENTENCE}</p><![CDATA[a < b]]>'
    "<math><mfrac><mi>a</mi><mi>b</mi></mfrac></math></body></html>",
    '<div class="sphinxsidebar"></div><div role="main"><dl><dt class="sig py" id="a.f">a.f(x)'
    '<a class="headerlink">¶</a></dt><dd><p>Does.</p></dd></dl><details><summary><h3>s</h3>'
    "</summary></details></div>",
    f'<meta name="generator" content="DocBook"><div class="navheader">x</div>{SENTENCE * 9}',
)
_PIECES = (
    *("<", ">", "</", "/>", "<!--", "-->", "<![CDATA[", "]]>", "&#0;", "&#xD800;", "\0", '"', "'"),
    *("<p>", "</p>", "<div>", "</div>", "<table>", "<tr><td>", "<pre>", "</pre>", "<li>", "<svg>"),
    *("<br/>", "<code>", "</code>", "<sup>", "<math>", "<ruby>", "<dl><dt>", "<h2>", "<a href=x>"),
    *("<noscript>", "<template>", "<button>", "<ol start=-9 reversed>", "<td colspan=0>", "\u202e"),
)


def known_pages(most: int) -> list[str]:
    """The pages above and, where the reference data is there, some of the web."""
    folder = Path(os.environ.get("MODELMILL_REFERENCE_DATA", "../shared/reference-data"))
    files = sorted((folder / "extraction-web" / "html").glob("*.gz"))[:most]
    return [*PAGES, *(gzip.decompress(f.read_bytes()).decode(errors="replace") for f in files)]


def mutated(pages: list[str], count: int, seed: int, longest: int = 6_000) -> Iterator[str]:
    """``count`` pages that chance made of pieces of ``pages``."""
    chance = random.Random(seed)
    for _ in range(count):
        page = chance.choice(pages)
        start = chance.randrange(max(1, len(page) - longest + 1))
        page = page[start : start + longest]
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(page) + 1)
            till = min(len(page), at + chance.choice((0, 1, 5, 200)))
            more = chance.choice(
                (
                    chance.choice(_PIECES),
                    chance.choice(_PIECES) * 20,
                    chr(chance.choice((0, 7, 0x2028, 0xFFFE, 0x1F600, chance.randrange(32, 255)))),
                    page[at:till] * 2,
                    "",
                )
            )
            page = page[:at] + more + page[till:]
        yield page
