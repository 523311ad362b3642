"""Mail in bytes whose charset nobody names, or names wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.collect.files.reading import read_bytes
from tests.collect.files.rows.test_delimited_tables import TEXTS

LEGACY = {codec: text for codec, text in TEXTS.items() if not codec.startswith("utf")}
DECLARED = (
    "",
    "Content-Type: text/plain\n",
    "Content-Type: text/plain; charset=us-ascii\nContent-Transfer-Encoding: 8bit\n",
    "Content-Type: text/plain; charset=unknown-8bit\n",
    "Content-Type: text/plain; charset=nonsense\n",
    "Content-Type: text/plain; charset=utf-8\n",
)


@pytest.mark.parametrize("codec", [*LEGACY, "utf-8"])
@pytest.mark.parametrize("declared", DECLARED)
def test_the_bytes_tell_the_charset_that_a_message_does_not(
    tmp_path: Path, codec: str, declared: str
) -> None:
    text = TEXTS.get(codec, TEXTS["cp1251"])
    content = f"Subject: {text[:20]}\n{declared}\n{text} {text}\n".encode(codec)
    if codec == "iso2022_jp":
        content = f"Subject: x\n{declared}\n{text} {text}\n".encode(codec)
    (page,) = read_bytes(tmp_path, "a.eml", content).pages
    assert page.body.decode() == f"{text} {text}\n"
    assert page.title == ("x" if codec == "iso2022_jp" else text[:20].strip())
    box = b"From a Mon Jan  1 00:00:00 2024\n" + content
    (boxed,) = read_bytes(tmp_path, "a.mbox", box).pages
    assert (boxed.body, boxed.title) == (page.body, page.title)


def test_html_mail_and_parts_without_a_charset(tmp_path: Path) -> None:
    text = TEXTS["cp1252"]
    html = f"Subject: S\nContent-Type: text/html\n\n<p>{text}</p>\n".encode("cp1252")
    (page,) = read_bytes(tmp_path, "a.eml", html).pages
    assert page.body.decode() == f"<p>{text}</p>\n"
    named = "<html><head><meta charset=koi8-r></head><p>{}</p>".format(TEXTS["koi8-r"])
    content = f"Subject: S\nContent-Type: text/html\n\n{named}\n".encode("koi8-r")
    (page,) = read_bytes(tmp_path, "b.eml", content).pages
    assert TEXTS["koi8-r"] in page.body.decode()
    parts = (
        "Subject: S\nContent-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: text/plain\n"
        f"Content-Transfer-Encoding: 8bit\n\n{text}\n--m--\n"
    ).encode("cp1252")
    (page,) = read_bytes(tmp_path, "c.eml", parts).pages
    assert page.body.decode().strip() == text
    quoted = "Subject: S\nContent-Transfer-Encoding: quoted-printable\n\nGr=FC=DFe aus K=F6ln\n"
    (page,) = read_bytes(tmp_path, "d.eml", quoted).pages
    assert page.body.decode().strip() == "Gr\u00fc\u00dfe aus K\u00f6ln"
