"""Main text of manuals, short pages and articles, and of randomly mutated pages."""

from __future__ import annotations

from functools import cache

import pytest

from components.collect.extraction.main_text import extract_main_text
from tests.collect.extraction.mutated_pages import PAGES, SENTENCE, known_pages, mutated

PARAGRAPHS = "".join(
    f"<p>{n} {SENTENCE.replace('cars', f'cars of kind {n}') * 2}</p>" for n in range(8)
)
MORE = "".join(
    f"<p>{n} {SENTENCE.replace('cars', f'lorries of kind {n}') * 2}</p>" for n in range(8)
)
RELATED = "".join(
    f'<li><a href="/{n}">Another story of the day, number {n}</a></li>' for n in "abc"
)
TALK = "I do not agree at all with any of this. " + "It is wrong in every way I can think of. " * 9
PAGE = f"""<html lang="en-gb"><head><title>Old bridge to close</title>
<meta property="og:type" content="article"></head>
<body><nav><a href="/">Home page of the paper</a></nav>
<div class="page"><h1>Old bridge to close</h1>
<div class="article-body">{PARAGRAPHS}<h2>What comes next</h2><ul><li>One thing that will follow soon.</li>
<li>Another thing that will follow later.</li></ul>{MORE}
<table><tr><th>Bridge</th><th>Year of building</th></tr><tr><td>Stone</td><td>1848</td></tr></table>
<pre><code class="language-python">def close(bridge):
    return None</code></pre></div>
<div class="related"><h3>More stories</h3><ul>{RELATED}</ul></div>
<div class="comments" id="comments"><p>{TALK}</p></div></div>
<footer>Copyright of the paper, all rights reserved.</footer></body></html>"""


def test_article_keeps_its_text_and_structure_alone() -> None:
    found = extract_main_text(PAGE, "text/html", "n")
    assert found.text.count("The council said") == 32
    assert "## What comes next\n\n- One thing" in found.text
    assert "| Bridge | Year of building |\n| --- | --- |\n| Stone | 1848 |" in found.text
    assert found.code == ["def close(bridge):\n    return None"]
    for foreign in ("Another story", "I do not agree", "Home page", "Copyright"):
        assert foreign not in found.text
        assert foreign in found.navigation
    assert found.title == "Old bridge to close"


def test_comments_are_text_where_they_are_asked_for() -> None:
    found = extract_main_text(PAGE, "text/html", "n", comments=True)
    assert "I do not agree" in found.text
    assert found.text.count("The council said") == 32


@pytest.mark.parametrize(
    ("before", "headline"),
    [
        ("<h1>Old <i>Stone</i>\nBridges</h1>", "Old Stone Bridges"),
        ('<header><h1><a href="/">The Paper</a></h1></header><h1>Old Bridges</h1>', "Old Bridges"),
        ("<h1>Paper</h1><h1>Old Bridges</h1>", "Old Bridges"),
        ("<h1>Bridges to close</h1>", "Bridges to close"),
        ("<nav><h1>The Paper</h1></nav>", ""),
        ("", ""),
    ],
)
def test_the_headline_is_told_apart_from_the_text(before: str, headline: str) -> None:
    title = "Bridges to close | Paper"
    page = f"<title>{title}</title><body>{before}<div>{PARAGRAPHS}</div>"
    found = extract_main_text(page, "text/html", "n")
    assert headline in (found.headline, next(iter(found.headings), ""))
    assert "The Paper" not in found.text
    assert found.title == title


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (
            '<meta name="generator" content="DocBook XSL"><body><div class="navheader">Prev Next'
            '</div><h1>Set up</h1><p>Do it.</p><div class="navfooter">Home</div></body>',
            "# Set up\n\nDo it.",
        ),
        (
            '<script src="_static/documentation_options.js"></script><div class="sphinxsidebar">'
            'Menu</div><div role="main"><h1>json<a class="headerlink">¶</a></h1><dl><dt class="sig '
            'py" id="json.f">json.f(<em>x</em>)</dt><dd><p>Does.</p></dd></dl></div>',
            "# json\n\n## json.f\n\n```python\njson.f(x)\n```\n\nDoes.",
        ),
        (
            '<div id="menu-bar"></div><div id="content"><main><h1><a class="header">Own</a></h1>'
            "<p>It.</p></main><nav class='nav-chapters'>Next</nav></div>",
            "# Own\n\nIt.",
        ),
        (
            '<meta name="generator" content="rustdoc"><nav class="sidebar">S</nav><section '
            'id="main-content"><h1>Struct <a>X</a></h1><span class="out-of-band">source</span>'
            "<details><summary><h4>fn f()</h4></summary><p>Does.</p></details><div "
            'id="synthetic-implementations-list">Send Sync</div></section>',
            "# Struct X\n\n#### fn f()\n\nDoes.",
        ),
        (
            '<div class="md-sidebar">S</div><article class="md-content__inner"><a title="Edit '
            'this page" class="md-content__button">e</a><h1>A</h1><div class="admonition note">'
            "<p>Mind it.</p></div></article>",
            "# A\n\nMind it.",
        ),
        (
            '<div id="__docusaurus"><nav>N</nav><div class="theme-doc-markdown markdown"><h1>A'
            '<a class="hash-link"></a></h1><p>b</p></div><nav class="pagination-nav">P</nav></div>',
            "# A\n\nb",
        ),
        (
            '<div class="vp-doc"><h1>A <a class="header-anchor">#</a></h1><div class="language-js">'
            '<button class="copy"></button><span class="lang">js</span><pre><code>x</code></pre>'
            "</div></div><aside>O</aside>",
            "# A\n\n```js\nx\n```",
        ),
        (
            '<meta name="generator" content="pdoc 16"><nav>N</nav><main class="pdoc"><h1>m</h1>'
            "<p>It.</p></main>",
            "# m\n\nIt.",
        ),
    ],
)
def test_a_manual_is_its_generators_container(page: str, text: str) -> None:
    assert extract_main_text(page, "text/html", "n").text == text


def test_a_generator_is_no_licence_to_take_a_menu() -> None:
    """The mark of a blog's tool, and containers that hold nothing, decide nothing."""
    page = PAGE.replace(
        "<body>", '<body><div id="__docusaurus"><div class="theme-doc-markdown"> </div></div>'
    )
    assert extract_main_text(page, "text/html", "n").text.count("The council said") == 32


def test_a_page_that_a_script_fills_has_its_structured_text() -> None:
    body = "The old bridge closes on Monday for repairs that take three months. " * 6
    page = (
        '<script type="application/ld+json">{"@type": "NewsArticle", "articleBody": "'
        f'{body}"}}</script><div id="app"></div>'
    )
    assert extract_main_text(page, "text/html", "n").text == body.strip()


def test_a_short_page_is_whole_and_a_short_menu_is_not() -> None:
    page = "<header>Shop</header><main><h1>Hours</h1><p>We open at nine every day.</p></main>"
    assert extract_main_text(page, "text/html", "n").text == "# Hours\n\nWe open at nine every day."
    form = (
        "<form action=x><input type=hidden><h2>Hours</h2><p>We open at nine every day.</p></form>"
    )
    assert (
        extract_main_text(form, "text/html", "n").text == "## Hours\n\nWe open at nine every day."
    )


MENU = "".join(f"<a href='/{n}'>Menu entry {n}</a> " for n in range(12))


def in_article(part: str) -> str:
    """The text of an article that holds ``part``, on a page with a menu and a footer."""
    body = f"<nav>{MENU}</nav><article><h1>Bridge</h1>{PARAGRAPHS}{part}{MORE}</article>"
    page = f"<body>{body}<footer>All rights reserved.</footer></body>"
    return extract_main_text(page, "text/html", "n").text


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("<p>A bell &#7;rings \x1bhere for all the people of the town.</p>", "bell rings here for"),
        (
            "<p>Ships that carry the wo&shy;rd leave the port before sunrise.</p>",
            "carry the word leave",
        ),
        (
            "<p><ruby>東京<rt>とうきょう</rt></ruby>に行く人はとても多い。</p>",
            "東京(とうきょう)に行く",
        ),
        (
            "<p>On <time>1 May</time> the quay opens to all of the visitors again.</p>",
            "1 May the quay",
        ),
        (
            "<p>So <math><mi>x</mi><mo>=</mo><mn>2</mn></math> holds for each wave.</p>",
            "So $x=2$ holds",
        ),
        ('<div class="katex-display"><math><mi>a</mi><mo>+</mo><mi>b</mi></math></div>', "$$a+b$$"),
        (
            '<p>Its height is <span class="mwe-math-element"><span style="display: none"><math '
            'alttext="{\\displaystyle h^{2}}"><mi>h</mi></math></span><img alt="h"></span>, they say.</p>',
            "Its height is $h^{2}$, they say.",
        ),
        (
            '<p>It is <img src="https://a.example/gif.latex?x%5E2" alt=""> metres long each day.</p>',
            "It is $x^2$ metres",
        ),
        (
            r"<p>So \(\sum_i f(x)\,dx\) is the area that is used by ships.</p>",
            r"So $\sum_i f(x)\,dx$ is",
        ),
        (
            "<table><tr><th>Op</th><th>Use</th></tr><tr><td><code>a|b</code></td><td>or | pipe</td>"
            "</tr></table>",
            r"or \| pipe",
        ),
        (
            '<aside class="admonition warning"><p>Never tie a boat to the wall.</p></aside>',
            "Never tie",
        ),
        (
            '<div class="syntaxhighlighter"><table><tr><td class="gutter"><div class="line">1</div></td>'
            '<td class="code"><div class="container"><div class="line"><code>def</code> <code>f():'
            "</code></div><div class='line'><code>    return 1</code></div></div></td></tr></table></div>",
            "```\ndef f():\n    return 1\n```",
        ),
        (
            "<h3><button>How do I dock here?</button></h3><p>Call the master first.</p>",
            "### How do I",
        ),
    ],
)
def test_what_stands_in_an_article_is_not_lost(part: str, text: str) -> None:
    assert text in in_article(part)


@pytest.mark.parametrize(
    ("part", "lacks"),
    [
        (
            '<div class="mw-heading"><h2>Past</h2><span class="mw-editsection">[edit]</span></div>',
            "[edit]",
        ),
        ('<ol><li>A note on the stones. <a href="#r" class="footnote-back">↩︎</a></li></ol>', "↩"),
    ],
)
def test_marks_that_lead_elsewhere_go(part: str, lacks: str) -> None:
    assert lacks not in in_article(part)


def test_a_short_page_loses_what_its_own_names_call_no_text() -> None:
    frame = (
        '<div id="cookie-banner">We use cookies.</div><div class="sidebar">Archives</div>'
        '<section id="comments"><p>I disagree.</p></section><div class="footer">© 2024</div>'
    )
    page = f"<body><h1>Hours</h1><p>We open at nine on every day of the year.</p>{frame}</body>"
    found = extract_main_text(page, "text/html", "n")
    assert found.text == "# Hours\n\nWe open at nine on every day of the year."
    assert "Archives" in found.navigation
    assert "I disagree." in extract_main_text(page, "text/html", "n", comments=True).text


@pytest.mark.parametrize(
    "page",
    [
        "<p>" + '<a href="/x">abc</a> ' * 20_000,
        "<p>" + "<b>x</b><i>y</i>" * 20_000,
        "<ul>" + "<ul><li>a</ul>" * 5_000,
        "<table><tr>" + "<td>a" * 1000 + "<tr><td>b" * 3000 + "</table>",
    ],
)
def test_no_page_takes_the_square_of_its_length(page: str) -> None:
    """What goes over all for each would outlast the test's time, or fill memory with blanks."""
    assert len(extract_main_text(page, "text/html", "n").text) < 2 * len(page)


def test_a_page_without_links_has_no_menu_to_leave_out() -> None:
    said = "".join(
        f"<div><b>{n} Nobody wrote a paragraph of it. {SENTENCE * 2}</b></div>" for n in "abcd"
    )
    found = extract_main_text(f"<body>{PARAGRAPHS}{said}</body>", "text/html", "n")
    assert found.text.count("Nobody wrote") == 4
    linked = said.replace("<b>", "<a href='/x'>").replace("</b>", "</a>")
    assert (
        "Nobody wrote"
        not in extract_main_text(f"<body>{PARAGRAPHS}{linked}</body>", "text/html", "n").text
    )


DOCTYPES = (
    '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "http://www.w3.org/TR/xhtml1/DTD/x.dtd">',
    '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "x.dtd">',
    '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "http://www.w3.org/TR/xhtml11/DTD/x.dtd">',
    '<!DOCTYPE html PUBLIC "-//W3C//DTD HTML 4.01 Frameset//EN" "x.dtd">',
    "",
)
VOID = ("<br />", "<hr/>", '<img src="a" alt="" />', "<input />", '<link rel="x" />', "<wbr />")


@cache
def text_in_standards_mode(body: str) -> str:
    return extract_main_text(f"<!DOCTYPE html>{body}", "text/html", "n").text


@pytest.mark.parametrize("doctype", DOCTYPES)
def test_a_doctype_changes_no_text(doctype: str) -> None:
    for page in (PAGE, *PAGES, *known_pages(8)):
        for void in VOID:
            body = page.replace("<p>", f"<p>{void}", 3)
            body = body[body.find("<html") :] if "<html" in body else body
            text = extract_main_text(f"{doctype}{body}", "text/html", "n").text
            assert text == text_in_standards_mode(body)


def read_all(count: int, seed: int) -> int:
    """How many of ``count`` mutated pages have a text; the others a reason."""
    texts = 0
    for page in mutated(known_pages(40), count, seed):
        try:
            found = extract_main_text(page, "text/html", "n", "http://a.example/x")
        except ValueError:
            continue
        texts += 1
        "".join([found.text, found.title, found.navigation, *found.headings, *found.code]).encode()
    return texts


def test_mutated_pages_have_a_text_or_a_reason() -> None:
    assert read_all(600, seed=1) > 300


@pytest.mark.slow
def test_many_mutated_pages_have_a_text_or_a_reason() -> None:
    assert read_all(100_000, seed=2) > 50_000


@pytest.mark.parametrize("text", ["שלום עולם, זה משפט ארוך. ", "这是一个很长的句子，有很多字。"])
def test_other_scripts_are_kept(text: str) -> None:
    page = f"<div>{''.join(f'<p>{n} {text * 8}</p>' for n in range(12))}</div>"
    assert extract_main_text(page, "text/html", "n").text.count(text.strip()) == 96


def test_one_endless_line_and_a_bottomless_page() -> None:
    line = f"<p>{'word ' * 400_000}</p>"
    assert len(extract_main_text(line, "text/html", "n").text) > 1_900_000
    with pytest.raises(ValueError, match="nested too deeply"):
        extract_main_text(f"{'<div>' * 100_000}{SENTENCE * 40}", "text/html", "n")
