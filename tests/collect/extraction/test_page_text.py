"""Texts of single pages: Markdown and code, charsets, plain text and Markdown files."""

from __future__ import annotations

import pytest

from components.collect.extraction.main_text import extract_main_text
from components.collect.extraction.outline import read_outline
from components.collect.web.charset import decode_page

CODE = 'def f(x):\n\tif x:\n\n        return "a  b"  # two  spaces\n\n\n    return `x`'
PROSE = "This sentence is here so that there is something to read on this page. " * 6


def html(body: str) -> str:
    return extract_main_text(
        f"<html><head><title>T</title></head><body>{body}</body></html>", "text/html", "n"
    ).text


@pytest.mark.parametrize("around", ["<main>{}</main>", "<article>{}</article>", "<div>{}</div>"])
def test_code_stays_word_for_word(around: str) -> None:
    escaped = CODE.replace("&", "&amp;").replace("<", "&lt;")
    block = (
        f'<h1>Loops</h1><p>{PROSE}</p><pre><code class="language-python">{escaped}\n</code></pre>'
    )
    page = around.format(f"{block}<p>Then come other words, quite a few of them. {PROSE}</p>")
    found = extract_main_text(page, "text/html", "n")
    assert f"```python\n{CODE}\n```" in found.text
    assert found.code == [CODE]
    assert found.text.count("Then come other words") == 1


def test_page_of_a_documentation_site() -> None:
    page = """<!DOCTYPE html><html><head><title>json</title></head><body>
    <header><a href="/">Docs</a></header><nav><ul><li><a>json.decoder</a></li></ul></nav>
    <main><h1>json</h1><p>Reads and
    writes <a href="x">JSON</a>.</p>
    <h2 id="dumps">json.dumps<a class="headerlink" href="#dumps">¶</a></h2>
    <pre><code class="language-python">def dumps(obj) -&gt; str</code></pre>
    <p>Serialize <code>obj</code> to a <em>formatted</em> <code>str</code>.</p></main>
    <footer>Made with care.</footer></body></html>"""
    found = extract_main_text(page, "text/html", "json.html")
    assert found.text == (
        "# json\n\nReads and writes JSON.\n\n## json.dumps\n\n"
        "```python\ndef dumps(obj) -> str\n```\n\n"
        "Serialize `obj` to a *formatted* `str`."
    )
    assert found.title == "json"
    assert found.headings == ["json", "json.dumps"]
    assert found.code == ["def dumps(obj) -> str"]
    assert found.navigation == "Docs\njson.decoder\nMade with care."


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("<ul><li>a<li>b<ol><li>c</li></ol></ul>", "- a\n- b\n  1. c"),
        ("<ol start='3'><li><p>a</p><p>b</p></li><li>c</li></ol>", "3. a\n\n   b\n\n4. c"),
        (
            "<table><tr><th>k</th><th>v</th></tr><tr><td>a|b</td><td>1</td></tr></table>",
            "| k | v |\n| --- | --- |\n| a\\|b | 1 |",
        ),
        (
            "<table><tr><td><div>one</div></td><td><pre>two</pre></td></tr></table>",
            "| one | `two` |\n| --- | --- |",
        ),
        ("<blockquote><p>a</p><p>b</p></blockquote>", "> a\n>\n> b"),
        ("<p>a<br>b <b>c</b> <i> d </i>e</p>", "a\nb **c** *d* e"),
        ("<p>use <code>a `b` c</code> and <tt>x</tt></p>", "use ``a `b` c`` and `x`"),
        ("<pre>x ``` y</pre>", "````\nx ``` y\n````"),
        ("<pre>\n  a<br>  b\n\n</pre>", "```\n  a\n  b\n```"),
        (
            '<div class="highlight-python3"><div class="highlight"><pre><span class="linenos">1</span>'
            "<span>import</span> os</pre></div></div>",
            "```python\nimport os\n```",
        ),
        ("<dl><dt>term</dt><dd>meaning</dd></dl>", "term\n\nmeaning"),
        (
            '<dl><dt class="sig sig-object py" id="a.f">a.f(<em>x</em>)<a class="headerlink">¶</a></dt>'
            "<dd><p>Does.</p></dd></dl>",
            "## a.f\n\n```python\na.f(x)\n```\n\nDoes.",
        ),
        (
            "<p>seen by those who read</p><p hidden>not</p><script>no()</script><style>p{}</style>",
            "seen by those who read",
        ),
        ("<p>open <b>bold <i>both</b> end", "open **bold *both*** end"),
        ("<h2></h2><p> &nbsp; </p><p>x&nbsp;y</p>", "x y"),
    ],
)
def test_markdown_of(source: str, expected: str) -> None:
    assert html(f"<main>{source}</main>") == expected


def test_page_without_a_marked_main_part() -> None:
    page = (
        '<div id="menu"><a href="/">Home</a> <a href="/about">About us</a></div>'
        f'<div class="post"><h1>A post</h1><p>{PROSE}</p><pre>a\n\n  b</pre><p>{PROSE}</p></div>'
        '<div class="footer">All rights reserved by someone.</div>'
    )
    text = html(page)
    assert text.startswith("# A post")
    assert "```\na\n\n  b\n```" in text
    assert "modelmillcode" not in text
    assert "About us" not in text


def test_an_articles_marked_part_loses_what_is_no_text() -> None:
    paragraphs = "".join(f"<p>{n} {PROSE.replace('page', f'page {n}')}</p>" for n in "abcd")
    teasers = "".join(f'<li><a href="/{n}">Some other story, {n}</a></li>' for n in range(9))
    related = f'<div class="related"><h4>Read more</h4><ul>{teasers}</ul></div>'
    article = f'<div class="post"><h1>A post</h1>{paragraphs}</div>'
    text = html(f"<main>{article}{related}</main>")
    assert text.count("something to read") == 24
    assert "Some other story" not in text


def test_a_marked_list_stays_whole() -> None:
    links = "".join(f'<li><a href="/{n}">A chapter on the matter, {n}</a></li>' for n in range(60))
    assert html(f"<main><h1>Contents</h1><ul>{links}</ul></main>").count("A chapter") == 60


def test_small_marked_part_is_not_the_main_part() -> None:
    teaser = "<article><p>Read also this.</p></article>"
    assert "something to read" in html(f"{teaser}<div><p>{PROSE}</p><p>{PROSE}</p></div>")


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        ("naïve".encode(), "text/html; charset=iso-8859-1", "naïve"),  # the header is wrong
        ("naïve – “x”".encode("cp1252"), "text/html; charset=iso-8859-1", "naïve – “x”"),
        ("наука".encode("koi8-r"), "text/html; charset=koi8-r", "наука"),
        ("наука".encode("koi8-r"), "text/html; charset=no-such", "наука"),
        ('<meta charset="koi8-r">наука'.encode("koi8-r"), "", '<meta charset="koi8-r">наука'),
        ("été".encode("utf-16"), "text/html", "été"),
        ("\ufeffx".encode(), "", "x"),
        ("東京へ".encode("iso-2022-jp"), "text/html; charset=iso-2022-jp", "東京へ"),
        ("plain text".encode("utf-16-le"), "text/html; charset=utf-16le", "plain text"),
        ("cut é".encode()[:-1], "text/html", "cut \ufffd"),
    ],
)
def test_charsets(body: bytes, kind: str, expected: str) -> None:
    if "no-such" in kind:  # a guess needs some text
        body, expected = body * 40, expected * 40
    assert decode_page(body, kind) == expected


def test_broken_html_still_gives_its_text() -> None:
    text = html("<main><div><p>one<div><table><tr><td>two</main></p><ul><li>three<p>four")
    assert [word for word in ("one", "two") if word not in text] == []


@pytest.mark.parametrize(
    "body", ["", "<html></html>", "<main><p> </p></main>", "<script>x</script>"]
)
def test_empty_pages_have_no_text(body: str) -> None:
    with pytest.raises(ValueError, match="holds no text"):
        extract_main_text(body, "text/html", "n")


def test_text_and_markdown_pass_through() -> None:
    source = "# A\n\n- item\n\n```py\n  x = 1\n```\n<b>kept</b>"
    found = extract_main_text(f"{source}\n", "text/markdown", "a.md")
    assert (found.text, found.title, found.headings, found.code) == (
        source,
        "A",
        ["A"],
        ["  x = 1"],
    )
    plain = extract_main_text("just words\r\nand more", "text/plain", "notes.txt")
    assert (plain.text, plain.title) == ("just words\nand more", "notes.txt")
    with pytest.raises(ValueError, match="no page: application/pdf"):
        extract_main_text("%PDF", "application/pdf", "n")


@pytest.mark.parametrize(
    ("source", "title", "text"),
    [
        ('---\ntitle: "A page"\ntags: [x]\n---\n# Own\n\nText.', "A page", "# Own\n\nText."),
        ("+++\ntitle = 'T'\n+++\nText.", "T", "Text."),
        ("---\nJust a rule.\n---\nText.", "Just a rule.", "---\n## Just a rule.\nText."),
        ("Big\n===\n\nSmall\n---\n\nText.", "Big", "# Big\n\n## Small\n\nText."),
        ("- item\n---\n\n| a |\n---\n\n---", "n", "- item\n---\n\n| a |\n---\n\n---"),
        ("a <!-- no --> b\n<!-- x\ny -->\nc", "n", "a  b\nc"),
        ("```\n<!-- kept -->\nx\n---\n```", "n", "```\n<!-- kept -->\nx\n---\n```"),
    ],
)
def test_markdown_of_others(source: str, title: str, text: str) -> None:
    found = extract_main_text(source, "text/markdown", "n")
    assert (found.title, found.text) == (title, text)


def test_outline_takes_code_out_of_lists_without_their_indent() -> None:
    text = "# one\n- item\n\n  ```sh\n  # no heading\n    ls\n  ```\n## two ##\n~~~\nopen"
    assert read_outline(text) == (["one", "two"], ["# no heading\n  ls", "open"])
    quoted = "> ```\n> > a\n>\n> b\n> ```\n```\n> ```\n```"
    assert read_outline(quoted) == ([], ["> a\n\nb", "> ```"])
