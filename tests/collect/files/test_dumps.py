"""Dumps of wikis and forums, mailboxes, saved pages, ARC and WACZ."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import pytest

from components.collect.files.converters.wikitext import write_wikitext
from components.collect.warc.page_shards import WebPage, write_shards
from tests.collect.crawling import LONG, NOW
from tests.collect.files.reading import read_bytes, read_folder, zip_bytes


def wiki_page(title: str, text: str, more: str = "<ns>0</ns>") -> str:
    return (
        f"<page><title>{title}</title>{more}<id>1</id><revision><id>2</id>"
        f"<timestamp>2024-01-01T00:00:00Z</timestamp><model>wikitext</model>"
        f'<text xml:space="preserve">{text}</text></revision></page>'
    )


def wiki_dump(*pages: str) -> str:
    return (
        '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">'
        "<siteinfo><sitename>Wiki</sitename><base>https://wiki.example/wiki/Main_Page</base>"
        f"</siteinfo>{''.join(pages)}</mediawiki>"
    )


def test_articles_of_a_wiki(tmp_path: Path) -> None:
    dump = wiki_dump(
        wiki_page("Old bridge", "'''Old bridges''' are &lt;ref&gt;x&lt;/ref&gt;[[bridge|old]]."),
        wiki_page("A+B &amp; C?", "Words of &amp;amp; it."),
        wiki_page("Bridge", "#REDIRECT [[Old bridge]]"),
        wiki_page("Brücke", "x", '<ns>0</ns><redirect title="Old bridge"/>'),
        wiki_page("Talk:Old bridge", "talk", "<ns>1</ns>"),
        wiki_page("Template:X", "template", "<ns>10</ns>"),
        wiki_page("Template:Y", "template", "<ns>10</ns>"),
        wiki_page("Nothing", "{{stub}}"),
    )
    for name, content in {
        "dump.xml": dump.encode(),
        "dump.xml.bz2": bz2.compress(dump.encode()[:900]) + bz2.compress(dump.encode()[900:]),
    }.items():
        reading = read_bytes(tmp_path, name, content)
        assert reading.texts == {
            "https://wiki.example/wiki/Old_bridge": "# Old bridge\n\nOld bridges are old.",
            "https://wiki.example/wiki/A%2BB_%26_C%3F": "# A+B & C?\n\nWords of & it.",
        }
        assert [page.title for page in reading.pages] == ["Old bridge", "A+B & C?"]
        assert reading.reasons == {
            f"file:///in/{name}#redirects": "2 redirects left out",
            f"file:///in/{name}#1": "1 pages of namespace 1 left out",
            f"file:///in/{name}#10": "2 pages of namespace 10 left out",
            f"file:///in/{name}#Nothing": "an empty page",
        }
        assert not reading.failed


def test_a_wikis_history_gives_the_newest_text(tmp_path: Path) -> None:
    revision = "<revision><timestamp>{}</timestamp><text>{}</text></revision>"
    page = "<page><title>A</title><ns>0</ns>"
    page += revision.format("2020-01-01T00:00:00Z", "old")
    page += revision.format("2024-01-01T00:00:00Z", "new")
    page += revision.format("2022-01-01T00:00:00Z", "middle") + "</page>"
    reading = read_bytes(tmp_path, "dump.xml", wiki_dump(page, wiki_page("B", "next")))
    assert [page.body for page in reading.pages] == [b"# A\n\nnew", b"# B\n\nnext"]


WIKITEXT = """{{Infobox|a=b}}
'''Arch''' is a ''form''<ref name=x>{{cite|y}}</ref> ({{IPA|x}}) of&nbsp;[[Bridge (structure)|bridge]].
[[File:A.jpg|thumb|200px|A [[caption]] here]][[Datei:B.png|mini|Text]][[de:Bogen]][[Category:X]]
== History ==
* one
** two
# first
# second
: indented
=== Code ===
<syntaxhighlight lang="python">
def f(x):
    return  x[[1]]  # {{no}}
</syntaxhighlight>
Area <math>a^2</math>, see [http://x.example the site], [[:Category:Y]], <nowiki>[[raw]]</nowiki>.
{| class="wikitable"
! left !! out
|}
== References ==
{{reflist}}
== See also ==
<!-- nothing -->
"""
MARKDOWN = """Arch is a form of bridge.

## History

- one
  - two
1. first
1. second
indented

### Code

```python
def f(x):
    return  x[[1]]  # {{no}}
```

Area $a^2$, see the site, Category:Y, [[raw]]."""


def test_wikitext_becomes_markdown() -> None:
    assert write_wikitext(WIKITEXT) == MARKDOWN


@pytest.mark.parametrize(
    "source",
    ["{{" * 3000, "[[" * 3000, "'''" * 3000, "<ref>" * 2000, "{|" * 2000, "* " * 9000, "=" * 9000],
)
def test_broken_wikitext_ends(source: str) -> None:
    assert isinstance(write_wikitext(source), str)


POSTS = """<?xml version="1.0" encoding="utf-8"?>
<posts>
  <row Id="4" PostTypeId="1" Title="How to sort?" Body="&lt;p&gt;How do I &lt;b&gt;sort&lt;/b&gt;?&lt;/p&gt;&#xA;" Tags="&lt;x&gt;" />
  <row Id="7" PostTypeId="2" ParentId="4" Body="&lt;p&gt;Use &lt;code&gt;sorted&lt;/code&gt;.&lt;/p&gt;" />
  <row Id="8" PostTypeId="5" Body="wiki" />
  <row Id="9" PostTypeId="2" Body="" />
</posts>
"""


def test_posts_of_a_forum(tmp_path: Path) -> None:
    folder = tmp_path / "dumps"
    (folder / "unix.stackexchange.com").mkdir(parents=True)
    (folder / "unix.stackexchange.com" / "Posts.xml").write_text(POSTS)
    (folder / "unix.stackexchange.com" / "Users.xml").write_text('<users><row Id="1" /></users>')
    reading = read_folder(folder)
    site = "https://unix.stackexchange.com"
    assert reading.texts == {
        f"{site}/q/4": "<p>How do I <b>sort</b>?</p>\n",
        f"{site}/a/7": "<p>Use <code>sorted</code>.</p>",
    }
    assert [(page.title, page.content_type) for page in reading.pages] == [
        ("How to sort?", "text/html; charset=utf-8"),
        ("", "text/html; charset=utf-8"),
    ]
    place = "file:///dumps/unix.stackexchange.com/"
    assert reading.reasons == {
        f"{place}Posts.xml#5": "1 posts of type 5 left out",
        f"{place}Posts.xml#9": "an empty page",
        f"{place}Users.xml": "no dump that is known: its root element is 'users'",
    }
    alone = read_bytes(tmp_path, "Posts.xml", POSTS)
    assert list(alone.texts) == ["file:///in/Posts.xml#4", "file:///in/Posts.xml#7"]


def test_xml_that_is_broken_or_hostile(tmp_path: Path) -> None:
    cut = read_bytes(tmp_path, "cut.xml", POSTS[: POSTS.index('<row Id="8"')])
    assert len(cut.pages) == 2
    assert "cannot be read as XML from here on" in cut.reasons["file:///in/cut.xml#3"]
    laughs = (
        '<!DOCTYPE posts [<!ENTITY a "x"><!ENTITY b "&a;&a;"><!ENTITY f SYSTEM "/etc/passwd">]>'
    )
    row = '<row Id="1" PostTypeId="1" Body="body &b;" Title="t" /><row>&f;</row>'
    hostile = read_bytes(tmp_path, "hostile.xml", f"{laughs}<posts>{row}</posts>")
    assert "root:" not in str(hostile.texts)
    many = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 20}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE posts [<!ENTITY e0 "ha">{many}]><posts><row Id="1" PostTypeId="1" Body="&e11;"/></posts>'
    outcome = read_bytes(tmp_path, "bomb.xml", bomb)
    assert not outcome.pages
    assert outcome.failed
    assert read_bytes(tmp_path, "text.xml", "hello").failed
    feed = read_bytes(tmp_path, "feed.xml", "<rss><channel/></rss>")
    assert feed.reasons
    assert not feed.failed


MESSAGE = (
    "From: A <a@x.example>\nTo: b@x.example\nSubject: =?utf-8?q?Br=C3=BCcke?=\n"
    "Content-Type: multipart/mixed; boundary=m\n\n--m\n"
    "Content-Type: multipart/alternative; boundary=b\n\n--b\n"
    "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\n"
    "plain caf=E9\n--b\nContent-Type: text/html\n\n<p>html</p>\n--b--\n--m\n"
    "Content-Type: application/pdf\nContent-Disposition: attachment\n\nJVBERi0=\n--m--\n"
)
HTML_MESSAGE = "Subject: S\nContent-Type: text/html\n\n<p>only html</p>\n"


def test_messages_are_their_text_and_subject(tmp_path: Path) -> None:
    (page,) = read_bytes(tmp_path, "a.eml", MESSAGE).pages
    assert (page.body.decode().strip(), page.title) == ("plain caf\u00e9", "Br\u00fccke")
    (html,) = read_bytes(tmp_path, "b.eml", HTML_MESSAGE).pages
    assert html.content_type.startswith("text/html")
    odd = "Subject: x\nContent-Type: text/plain; charset=nonsense\n\nwords caf\u00e9\n"
    assert "words" in str(read_bytes(tmp_path, "c.eml", odd).texts)
    nothing = read_bytes(tmp_path, "d.eml", "Subject: only this\n\n")
    assert nothing.reasons == {"file:///in/d.eml": "a message without text"}


def test_mailboxes_are_parted_into_messages(tmp_path: Path) -> None:
    box = f"From a@x.example Mon Jan  1 00:00:00 2024\n{MESSAGE}\n"
    box += "From b Mon Jan  1 00:00:00 2024\nSubject: Two\n\nFirst line.\n\n>From here on.\n> quoted\nFrom home.\n\n"
    box += f"From c Mon Jan  1 00:00:00 2024\n{HTML_MESSAGE}"
    for name, content in {"a.mbox": box.encode(), "b.mbox.gz": gzip.compress(box.encode())}.items():
        reading = read_bytes(tmp_path, name, content)
        assert [page.title for page in reading.pages] == ["Br\u00fccke", "Two", "S"]
        second = reading.texts[f"file:///in/{name}#2"]
        assert second.rstrip() == "First line.\n\nFrom here on.\n> quoted\nFrom home."


SAVED = (
    "From: <Saved by Blink>\r\nSnapshot-Content-Location: https://x.example/page\r\n"
    "Subject: =?utf-8?Q?The=20page?=\r\nMIME-Version: 1.0\r\n"
    'Content-Type: multipart/related; type="text/html"; boundary="--x"\r\n\r\n'
    "----x\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n"
    "Content-Location: https://x.example/page\r\n\r\n<p>caf=C3=A9 words</p>\r\n"
    "----x\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBOR\r\n----x--\r\n"
)


def test_a_saved_page_has_its_address(tmp_path: Path) -> None:
    (page,) = read_bytes(tmp_path, "a.mhtml", SAVED).pages
    assert (page.url, page.title) == ("https://x.example/page", "The page")
    assert page.body.decode().strip() == "<p>caf\u00e9 words</p>"
    assert page.content_type == "text/html"
    local = SAVED.replace("https://x.example/page", "file:///home/me/page.html")
    assert list(read_bytes(tmp_path, "b.mht", local).texts) == ["file:///in/b.mht"]


def arc_record(url: str, body: bytes, date: str = "20080430204825") -> bytes:
    head = f"{url} 10.0.0.1 {date} text/html {len(body)}\n"
    return head.encode() + body + b"\n"


def http(content: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\n\r\n{content}".encode()


FILE_HEAD = arc_record(
    "filedesc://a.arc", b"1 0 Internet Archive\nURL IP-address date type length\n"
)


def test_arc_files(tmp_path: Path) -> None:
    records = [
        FILE_HEAD,
        arc_record("http://x.example/a", http("<p>page a</p>")),
        arc_record("dns:x.example", b"20080430204825\nx.example. 10 IN A 10.0.0.1\n"),
        arc_record("http://x.example/gone", http("gone", "404 Not Found")),
        arc_record("http://x.example/a b", http("<p>page with a space</p>")),
    ]
    for name, content in {
        "a.arc": b"".join(records),
        "b.arc.gz": b"".join(gzip.compress(record) for record in records),
    }.items():
        reading = read_bytes(tmp_path, name, content)
        assert reading.texts == {
            "http://x.example/a": "<p>page a</p>",
            "http://x.example/a%20b": "<p>page with a space</p>",
        }
        assert {page.date for page in reading.pages} == {"2008-04-30T20:48:25Z"}
    damaged = [*records[:2], b"rubbish\nmore\n", records[4], records[1][:-20]]
    reading = read_bytes(tmp_path, "c.arc", b"".join(damaged))
    assert len(reading.pages) == 2
    assert "no ARC record" in reading.reasons.values()


def test_wacz_files(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    headers = (("content-type", "text/html"),)
    robots = b"User-agent: *\nDisallow: /no"
    pages = [
        WebPage("http://x.example/", LONG.encode(), "text/html", "", headers, date=NOW),
        WebPage("http://x.example/no", LONG.encode(), "text/html", "", headers, date=NOW),
        WebPage("http://x.example/robots.txt", robots, "text/plain", "", headers, date=NOW),
    ]
    write_shards(shards, pages, 1, NOW)
    warc = (shards / "00000.warc.gz").read_bytes()
    wacz = zip_bytes(
        {
            "archive/data.warc.gz": warc,
            "datapackage.json": "{}",
            "pages/pages.jsonl": '{"text": "an extract"}',
        }
    )
    reading = read_bytes(tmp_path, "a.wacz", wacz)
    assert set(reading.texts) == {"http://x.example/", "http://x.example/no"}
    beside = read_bytes(tmp_path, "a.zip", zip_bytes({"x/data.warc.gz": warc, "b.txt": "words"}))
    assert set(beside.texts) == {*reading.texts, "file:///in/a.zip/b.txt"}
