"""The article model: what it keeps, what it leaves, and that nothing makes it fail."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.collect import article
from components.collect.blocks import read_blocks, without_asides
from components.collect.cues import TEXT_GROUPS, class_cues, text_cues
from components.collect.dom import parse_html
from components.collect.fit import example, site_of
from components.collect.maintext import main_text
from components.collect.metadata import iso_date, read_facts, read_metadata
from components.collect.trees import Trees
from tests.collect import plain_blocks

SENTENCE = "The council said on Tuesday that the bridge, which is old, will be closed to cars. "
PARAGRAPHS = "".join(f"<p>{n} {SENTENCE * 3}</p>" for n in range(8))
RELATED = "".join(
    f'<li><a href="/{n}">Another story of the day, number {n}</a></li>' for n in "abc"
)
PAGE = f"""<html lang="en-gb"><head><title>Old bridge to close</title>
<meta property="og:type" content="article"><meta property="og:title" content="Old bridge to close">
<script type="application/ld+json">{{"@type": "NewsArticle", "author": {{"name": "Ann Lee"}},
"datePublished": "2019-11-18T10:00:00Z", "license": "https://example.org/by"}}</script></head>
<body><nav><a href="/">Home page of the paper</a></nav>
<div class="page"><h1>Old bridge to close</h1>
<div class="article-body">{PARAGRAPHS}<h2>What comes next</h2><ul><li>{SENTENCE}</li>
<li>{SENTENCE}</li></ul>{PARAGRAPHS}</div>
<div class="related"><h3>More stories</h3><ul>{RELATED}</ul></div>
<div class="comments"><p>I do not agree at all with any of this. {SENTENCE * 20}</p></div></div>
<footer>Copyright of the paper, all rights reserved.</footer></body></html>"""


def test_article_keeps_its_text_and_structure_alone() -> None:
    found = main_text(PAGE, "text/html", "n")
    assert found.text.count(SENTENCE.strip()) == 8 * 2 * 3 + 2
    assert "## What comes next\n\n- The council" in found.text
    for foreign in ("Another story", "I do not agree", "Home page", "Copyright"):
        assert foreign not in found.text
        assert foreign in found.navigation
    assert found.title == "Old bridge to close"


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
    page = f"<title>{title}</title><body>{before}<p>{SENTENCE * 20}</p><h1>After</h1>"
    found = main_text(page, "text/html", "n")
    assert found.headline == headline
    assert found.text.startswith("The council")
    assert found.title == title


def test_a_page_whose_text_has_its_headline_gets_no_other() -> None:
    code = f"<title>Bridges</title><body><h1>Bridges</h1><pre>x</pre><p>{SENTENCE * 20}</p>"
    found = main_text(code, "text/html", "n")
    assert (found.headings, found.headline) == (["Bridges"], "")
    twice = f"<body><h1>The council said</h1><p>{SENTENCE * 20}</p>"
    assert main_text(twice, "text/html", "n").headline == ""


def test_metadata() -> None:
    root = parse_html(PAGE)
    found = read_metadata(root, read_facts(root), "http://a.example/2001/02/03/x")
    assert (found.author, found.date) == ("Ann Lee", "2019-11-18")
    assert (found.language, found.licence) == ("en-GB", "https://example.org/by")
    bare = parse_html(
        "<p>x</p><a rel='license' href='/by'>l</a><time datetime='2020-02-30'></time>"
    )
    told = read_metadata(bare, read_facts(bare), "http://a.example/2001/02/03/x")
    assert (told.author, told.date, told.language, told.licence) == ("", "2001-02-03", "", "/by")


BY, NC = (f"https://creativecommons.org/licenses/{kind}/4.0/" for kind in ("by", "by-nc"))


@pytest.mark.parametrize(
    ("html", "licence", "sources"),
    [
        (f"<a rel='license' href='{BY}'>l</a>", BY, [f'<a rel="license" href="{BY}">']),
        # A mere link may be about a picture: one is taken, of several that differ none.
        (f"<a href='{BY}'>l</a>", BY, [f'<a href="{BY}">']),
        (f"<a href='{BY}'>l</a><a href='{NC}'>p</a>", "", [f'<a href="{BY}">', f'<a href="{NC}">']),
        (
            f"<a href='{BY}'>l</a><link rel='license' href='{NC}'>",
            NC,
            [f'<link rel="license" href="{NC}">', f'<a href="{BY}">'],
        ),
        (
            '<script type="application/ld+json">{"@graph": [{"@type": "ImageObject", "license":'
            f' "{NC}"}}, {{"@type": "NewsArticle", "license": {{"@id": "{BY}"}}}}]}}</script>',
            BY,
            [f'{{"license": "{BY}"}}'],
        ),
        (
            "<meta name='dcterms.rights' content='All rights\nreserved'>",
            "",
            ['<meta name="dcterms.rights" content="All rights reserved">'],
        ),
        ("<a href='/licence'>licence</a>", "", []),
    ],
)
def test_licences_in_a_page(html: str, licence: str, sources: list[str]) -> None:
    root = parse_html(f"<html><body>{html}<p>x")
    told = read_metadata(root, read_facts(root), "http://a.example/x")
    assert told.licence == licence
    assert told.licence_source.splitlines() == sources


def test_a_page_of_many_licences_says_some() -> None:
    links = "".join(f"<a rel='license' href='https://a.example/{n}'>x</a>" for n in range(50))
    root = parse_html(links)
    assert len(read_metadata(root, read_facts(root), "http://a.example/x").licence_source) < 500


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2019-11-18T23:00:00+05:00", "2019-11-18"), ("20191118", "2019-11-18"), ("2019-13-18", "")],
)
def test_iso_date(text: str, expected: str) -> None:
    assert iso_date(text) == expected


def test_runs_are_split_at_blocks_and_double_breaks() -> None:
    body = parse_html(
        "<div>one <b>two</b><p>three <a href='/'>four</a></p>five<br><br>six<script>no</script></div>"
    ).find("body")
    blocks = read_blocks(body)
    assert blocks.texts(blocks.runs) == ["one two", "three four", "five", "six"]
    assert (blocks.runs.linked.tolist(), blocks.runs.strong.tolist()) == (
        [0, 4, 0, 0],
        [3, 0, 0, 0],
    )


def test_comments_and_menus_go_unless_they_are_the_page() -> None:
    talk = f"<div class='comments'><p>{SENTENCE * 5}</p></div>"
    page = parse_html(f"<div><p>{SENTENCE * 5}</p>{talk}<nav>menu</nav></div>").find("body")
    blocks = without_asides(read_blocks(page))
    assert (len(blocks.runs), len(blocks.asides)) == (1, 2)
    assert blocks.boxes.last[0] == 1
    forum = without_asides(read_blocks(parse_html(f"<p>Forum</p>{talk}").find("body")))
    assert len(forum.runs) == 2


def test_cues() -> None:
    assert class_cues("related-articles") & class_cues("related")
    assert class_cues("entry-content") & class_cues("articlebody")
    assert class_cues("xyz") == 0
    for text, group in (
        *(("read more: the bridge", "more"), ("by ann lee", "byline"), ("3 comments", "comment")),
        *(
            ("18 november 2019", "date"),
            ("a view (picture by b)", "credit"),
            ("e-mail us", "follow"),
        ),
        ("emailed by us: 3:05", "embed"),
    ):
        assert text_cues(text) & 1 << TEXT_GROUPS.index(group), text
    assert text_cues("the bridge is closed.") == 0


def test_trees_are_what_was_learnt() -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    from components.collect.fit import _flatten

    random = np.random.default_rng(0)
    table = random.normal(size=(300, 4)).astype(np.float32)
    answer = table[:, 0] * (table[:, 1] > 0)
    model = HistGradientBoostingRegressor(max_iter=20).fit(table, answer)
    ours = Trees.of_json(_flatten(model).as_json())
    np.testing.assert_allclose(ours.score(table), model.predict(table), atol=1e-4)


def test_example_knows_which_runs_are_text() -> None:
    truth = "One two three four five six. Seven eight nine ten."
    one = example(
        "<p>One two three four five six.</p><p>Menu</p><p>Seven eight nine ten.</p>",
        truth,
        "https://www.news.example.co.uk/a",
    )
    assert one is not None
    assert one.truth.round().tolist() == [1, 0, 1]
    assert one.quality.max() > 0.9
    assert (site_of("https://a.b.example.com/x"), one.site) == ("example.com", "example.co.uk")


def test_other_weights_are_refused(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(article, "WEIGHTS_SHA256", "0" * 64)
    article.shipped.cache_clear()
    with pytest.raises(ValueError, match=r"article\.json: not the weights"):
        article.shipped()
    article.shipped.cache_clear()


_PIECES = st.sampled_from(
    [
        *("<div class='comment'>", "<p>", "</p>", "<table><tr><td>", "</table>", "<ul><li>"),
        *("</div>", "<article>", "<a href='/'>", "</a>", "<br><br>", "<!--", "<script>", "<h1>"),
        *(
            "</script>",
            "<b",
            "\0",
            SENTENCE,
            "שלום עולם, זה טקסט. ",
            "这是一个句子。",
            "&#0;&amp;&nbsp;",
        ),
        *("<![CDATA[", "\ud800", "<body>", "<form>", "<pre>x", "<base", "<template>", "</html>"),
    ]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_PIECES, max_size=120))
def test_any_page_is_read_or_refused(pieces: list[str]) -> None:
    page = f"<meta property='og:type' content='article'>{SENTENCE * 12}" + "".join(pieces)
    try:
        found = main_text(page, "text/html", "n")
    except ValueError:
        return
    assert found.text.strip()


_MARKUP = st.sampled_from(
    [
        *("<div class='comment-list relatedPosts'>", "<p id='ABc'>", "</p>", "<ul><li>", "</div>"),
        *("<a href='/'>", "</a>", "<br>", "<b>", "</b>", "<script>a<b</script>", "x &amp; y &lt;"),
        *("<td role='dialog'>", "<p style='display:none'>", " \u00a0\n", "İstanbul ﬁ", "<x:y z>"),
        *(
            "<p itemprop='articleBody'>",
            "<p itemprop='video'>",
            "<xmp>a<b>&amp;",
            "</xmp>",
            "<svg>",
        ),
        *("<p class='a&amp;body \"q\"'>", "</svg>", "<i hidden>", '<a<b c"d=1>', "&#13;", "\ufffd"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_MARKUP, max_size=60))
def test_markup_is_read_as_a_walk_over_the_tree_reads_it(pieces: list[str]) -> None:
    body = parse_html("<body>x" + "".join(pieces)).find("body")
    ours, plain = read_blocks(body), plain_blocks.read_blocks(body)
    boxes, runs = ours.boxes, ours.runs
    assert ours.texts(runs) == [run.text for run in plain.runs]
    for name in ("box", "chars", "linked", "links", "strong"):
        assert getattr(runs, name).tolist() == [getattr(run, name) for run in plain.runs], name
    for name in ("parent", "cues", "depth", "first", "last"):
        assert getattr(boxes, name).tolist() == [getattr(box, name) for box in plain.boxes], name
    elements = list(body.iter())
    assert all(elements[at] is box.element for at, box in zip(boxes.at, plain.boxes, strict=True))
    places = [(elements[place >> 1], bool(place & 1), run) for place, run in ours.pieces.T.tolist()]
    # (A control character, which XML lacks, is U+FFFD in a run.)
    assert places == [(*one, at) for at, run in enumerate(plain.runs) for one in run.places]


@pytest.mark.parametrize("text", ["שלום עולם, זה משפט ארוך. ", "这是一个很长的句子，有很多字。"])
def test_other_scripts_are_kept(text: str) -> None:
    page = f"<meta property='og:type' content='article'><div>{f'<p>{text * 8}</p>' * 12}</div>"
    assert main_text(page, "text/html", "n").text.count(text.strip()) == 96


def test_one_endless_line_and_a_bottomless_page() -> None:
    line = f"<meta property='og:type' content='article'><p>{'word ' * 400_000}</p>"
    assert len(main_text(line, "text/html", "n").text) > 1_900_000
    deep = f"<meta property='og:type' content='article'>{'<div>' * 100_000}{SENTENCE * 40}"
    with pytest.raises((RecursionError, ValueError)):
        main_text(deep, "text/html", "n")
