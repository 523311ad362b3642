"""Pages come apart into sections, and prose comes out of its markup."""

from __future__ import annotations

import pytest

from components.text.first_sentence import first_sentence
from components.text.markdown_sections import split_sections, strip_markup, without_fences

PAGE = """Lost.

# json

JSON tools.

## json.dumps

```python
def dumps(obj) -> str
```

Serialize ``obj``.

More on it,
on two lines.

~~~~
# no heading
```
~~~~

### `json.loads` ###
```
x
```
"""


def test_sections() -> None:
    found = split_sections(PAGE)
    assert [(s.level, s.heading) for s in found] == [
        (1, "json"),
        (2, "json.dumps"),
        (3, "json.loads"),
    ]
    assert found[0].fence is None
    assert found[1].fence == "def dumps(obj) -> str"
    assert found[1].paragraphs == ["Serialize ``obj``.", "More on it,\non two lines."]
    assert found[2].fence == "x"


def test_text_without_its_fences() -> None:
    assert without_fences("a\n```py\nb\n```\nc\n~~~\nd\n```\n~~~\ne") == "a\nc\ne"
    assert without_fences("a\n```\nnever closed") == "a"
    assert without_fences("````\n```\n````\nb") == "b"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Serialize ``obj`` to `str`.", "Serialize obj to str."),
        (":class:`~a.b.Engine` and :func:`run`", "Engine and run"),
        (":ref:`The guide <guide-ref>`", "The guide"),
        ("a :py:meth:`.History.empty` here", "a History.empty here"),
        ("[text](https://x.example/a_b) ![i](p.png)", "text"),
        ("`a link <https://x.example>`_ out", "a link out"),
        ("**bold** and *thin* and 2 * 3 * 4", "bold and thin and 2 * 3 * 4"),
        ("`__init__` takes `*args` and `<tag>`", "__init__ takes *args and <tag>"),
        (r"a\_b \*c\*", "a_b *c*"),
        ("<b>x</b> if a < b", "x if a < b"),
        ("two\n  lines", "two lines"),
    ],
)
def test_plain(given: str, expected: str) -> None:
    assert strip_markup(given) == expected


@pytest.mark.parametrize(
    ("paragraphs", "expected"),
    [
        (["Return the *value*. It may be None."], "Return the value."),
        (["return the value, e.g. 3. Then stop."], "Return the value, e.g. 3."),
        (["abs(x, /, out=None)", "Calculate the absolute value."], "Calculate the absolute value."),
        (["func(x) -> int -- Give the size of x"], "Give the size of x."),
        ([".. note:: x", "Give the size of x."], "Give the size of x."),
        (["Parameters\n----------\nx : int", "Give the size of x."], None),
        (["The following are allowed:"], None),
        (["New in version 3.2."], None),
        (["Optional[float]: Time this task was stopped."], "Time this task was stopped."),
        ([">>> run it now", "- a list of things"], None),
        (["Too short"], None),
        (["word " * 41], None),
        ([], None),
    ],
)
def test_first_sentence(paragraphs: list[str], expected: str | None) -> None:
    assert first_sentence(paragraphs) == expected
