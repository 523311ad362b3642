"""Charsets of pages: labels of the Encoding Standard, odd declarations, damaged and undeclared bytes."""

from __future__ import annotations

import codecs

import pytest
from webencodings.labels import LABELS

from components.collect.web.charset import decode_page, decode_with_codec, find_codec

RUSSIAN = "Сегодня очень хорошая погода, и мы пошли гулять в парк, где цвели деревья. " * 3
FRENCH = "Le café coûte cher à Besançon, où l’été est « là », dit-on. " * 6
CHINESE = "今天天气很好，我们去公园散步，看到了许多美丽的花朵和树木。" * 3
JAPANESE = "日本語のページです。今日は天気がとても良いので、公園まで散歩に行きました。" * 3
KOREAN = "오늘은 날씨가 아주 좋아서 공원으로 산책을 갔습니다. " * 3
ENGLISH = "Names of the people who came to the dinner on Friday evening, in their order. " * 4


def html(text: str, head: str = "") -> str:
    return f"<html><head>{head}<title>t</title></head><body><p>{text}</p></body></html>"


def meta(label: str) -> str:
    return f'<meta http-equiv="Content-Type" content="text/html; charset={label}">'


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("gb2312", "gbk", CHINESE + "朱镕基 陶喆 後來 繁體"),
        ("gbk", "gb18030", CHINESE + "㐀㐁 𠀀"),
        ("x-gbk", "gb18030", CHINESE + "𠀀"),
        ("big5", "big5hkscs", "今天天氣很好，我們去公園散步。" * 3 + "佢哋喺度食嘢"),
        ("Shift_JIS", "cp932", JAPANESE + "①②③ ㈱高橋 髙﨑 Ⅳ ～"),
        ("windows-31j", "cp932", JAPANESE + "髙﨑"),
        ("euc-kr", "cp949", KOREAN + "똠방각하 펲시콜라 뷁"),
        ("ks_c_5601-1987", "cp949", KOREAN + "똠방각하"),
        ("windows-949", "cp949", KOREAN + "뷁"),
        ("iso-8859-9", "cp1254", "Bugün hava çok güzel “tırnak” – ığüşöç"),
        ("tis-620", "cp874", "วันนี้อากาศดีมาก “คำพูด” …"),
        ("iso-8859-1", "cp1252", "The café’s “menu” – naïve – costs €5."),
        ("us-ascii", "cp1252", "The café’s “menu” – naïve."),
        ("iso-8859-8-i", "iso8859-8", "שלום עולם, זה דף בעברית"),
        ("x-mac-cyrillic", "mac-cyrillic", RUSSIAN),
        ("koi8", "koi8-r", RUSSIAN),
        ("iso-2022-kr", "iso2022_kr", KOREAN),
    ],
)
def test_a_label_means_what_browsers_take_it_for(label: str, codec: str, text: str) -> None:
    assert decode_page(html(text, meta(label)).encode(codec)) == html(text, meta(label))
    header = f"text/html; charset={label}"
    assert decode_page(html(text).encode(codec), header) == html(text)


def vendor_kanji(text: str, lead: bytes = b"", end: bytes = b"", high: int = 0x80) -> bytes:
    """JIS rows and cells of characters, from their places in Shift_JIS."""
    pairs = bytearray()
    for character in text:
        first, second = character.encode("cp932")
        row = (first - (0x81 if first < 0xA0 else 0xC1)) * 2 + (second >= 0x9F)
        cell = second - 0x9F if second >= 0x9F else second - 0x40 - (second > 0x7F)
        pairs += bytes([row + 0x21 | high, cell + 0x21 | high])
    return lead + bytes(pairs) + end


def test_vendors_characters_in_japanese_charsets() -> None:
    """NEC's row 13 and the kanji of rows 89 to 92, which the standard reads in all three."""
    extra = "①㈱Ⅳ纊"
    body = (
        html("@@", meta("EUC-JP"))
        .encode()
        .replace(b"@@", JAPANESE.encode("euc_jp") + vendor_kanji(extra))
    )
    assert decode_page(body) == html(JAPANESE + extra, meta("EUC-JP"))
    body = (
        html("@@", meta("ISO-2022-JP"))
        .encode()
        .replace(
            b"@@", JAPANESE.encode("iso2022_jp") + vendor_kanji(extra, b"\x1b$B", b"\x1b(B", 0)
        )
    )
    assert decode_page(body) == html(JAPANESE + extra, meta("ISO-2022-JP"))


def test_half_a_character_of_euc_jp_costs_itself_alone() -> None:
    body = b"<p>" + JAPANESE.encode("euc_jp") + b"\xa4</p><p>" + JAPANESE.encode("euc_jp")
    text = decode_page(body, "text/html; charset=euc-jp")
    assert text == f"<p>{JAPANESE}\ufffd</p><p>{JAPANESE}"


def test_a_single_80_of_gbk_is_the_euro_sign() -> None:
    body = html(CHINESE + "@", meta("gb2312")).encode("gbk").replace(b"@", b"\x80")
    assert decode_page(body) == html(CHINESE + "€", meta("gb2312"))


@pytest.mark.parametrize("label", ["Shift_JIS", "ISO-2022-JP", "EUC-JP"])
@pytest.mark.parametrize("codec", ["cp932", "iso2022_jp", "euc_jp"])
def test_declared_and_undeclared_japanese(codec: str, label: str) -> None:
    """A declaration that cannot be true is not believed."""
    assert decode_page(html(JAPANESE).encode(codec)) == html(JAPANESE)
    body = html(JAPANESE, meta(label)).encode(codec)
    if codec == find_codec(label) or label != "ISO-2022-JP":
        assert decode_page(body) == html(JAPANESE, meta(label))


@pytest.mark.parametrize(
    ("encoding", "codec", "text"),
    [
        ("windows-1251", "cp1251", RUSSIAN),
        ("KOI8-R", "koi8-r", RUSSIAN),
        ("ISO-8859-7", "iso8859-7", "Σήμερα ο καιρός είναι πολύ καλός και πήγαμε βόλτα. "),
        ("ISO-8859-15", "iso8859-15", "Le café coûte 5 € à l'œuvre, où l'été est là. "),
        ("ISO-8859-2", "iso8859-2", "Źdźbło, więc poszliśmy na spacer. "),
    ],
)
@pytest.mark.parametrize("quote", ['"', "'"])
def test_xml_declarations(encoding: str, codec: str, text: str, quote: str) -> None:
    page = f"<?xml version={quote}1.0{quote} encoding = {quote}{encoding}{quote}?>\n{html(text)}"
    assert decode_page(page.encode(codec), "application/xhtml+xml") == page


@pytest.mark.parametrize(
    "head",
    [
        '<meta charset="gbk">',
        "<META CHARSET = gbk >",
        "<meta charset='gbk'/>",
        '<meta content="text/html; charset=gbk" http-equiv="content-type">',
        '<meta httpequiv="ContentType" content="text/html; charset=gbk">',
        '<!-- <meta charset="koi8-r"> --><meta charset="gbk">',
        '<script src="/a.js" charset="koi8-r"></script><meta charset="gbk">',
        '<link rel="stylesheet" href="/a.css" charset="koi8-r"><meta charset="gbk">',
        f'<meta name="description" content="{"x" * 3000}"><meta charset="gbk">',
        '<meta charset="no-such-charset">',
        '<meta charset="rot13">',
        '<meta charset="unicode_escape">',
        "",
    ],
)
def test_declarations_in_the_page(head: str) -> None:
    page = html(CHINESE, head)
    assert decode_page(page.encode("gbk")) == page


def test_the_header_is_asked_before_the_page() -> None:
    page = html(RUSSIAN, meta("koi8-r"))
    for header in ("charset=windows-1251", 'charset="windows-1251"', "a=b; CHARSET = Windows-1251"):
        assert decode_page(page.encode("cp1251"), f"text/html; {header}") == page


def test_a_plain_text_about_charsets_declares_none() -> None:
    text = 'Write <meta charset="koi8-r"> into the head.\n' + FRENCH
    assert decode_page(text.encode("cp1252"), "text/plain") == text


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf_16(codec: str) -> None:
    page = html(RUSSIAN)
    assert decode_page(("\ufeff" + page).encode(codec)) == page
    assert decode_page(page.encode(codec), "text/html; charset=utf-16") == page
    assert (
        decode_page(page.encode(codec), f"text/html; charset={codec.replace('-', '', 1)}") == page
    )
    assert decode_page(page.encode(codec)) == page
    declared = html(RUSSIAN, '<meta charset="utf-16">')
    assert decode_page(declared.encode(codec)) == declared
    # Without zero bytes only the declaration can tell.
    label = "utf-16le" if codec == "utf-16-le" else "utf-16be"
    assert decode_page(CHINESE.encode(codec), f"text/plain; charset={label}") == CHINESE


def test_other_marks_and_a_lie_about_utf_16() -> None:
    assert decode_page(codecs.BOM_UTF32_LE + RUSSIAN.encode("utf-32-le"), "text/plain") == RUSSIAN
    assert decode_page(codecs.BOM_UTF32_BE + RUSSIAN.encode("utf-32-be"), "text/plain") == RUSSIAN
    marked = html(RUSSIAN, meta("iso-8859-1"))
    assert decode_page(codecs.BOM_UTF8 + marked.encode(), "text/html; charset=koi8-r") == marked
    lie = html(RUSSIAN, '<meta charset="utf-16">')
    assert decode_page(lie.encode()) == lie
    assert decode_page(html("plain").encode(), "text/html; charset=utf-16") == html("plain")


@pytest.mark.parametrize("text", [RUSSIAN, FRENCH, CHINESE * 3])
@pytest.mark.parametrize("head", [meta("utf-8"), "", meta("iso-8859-1")])
def test_one_lost_byte_leaves_a_page_utf_8(text: str, head: str) -> None:
    body = html(text, head).encode()
    at = next(i for i in range(len(body) * 2 // 3, len(body)) if body[i] & 0xC0 == 0x80)
    read = decode_page(body[:at] + body[at + 1 :])
    assert read.count("\ufffd") == 1
    assert len(read) in (len(html(text, head)), len(html(text, head)) - 1)


def test_a_latin_1_byte_in_a_utf_8_page() -> None:
    body = html(FRENCH + "@", meta("utf-8")).encode().replace(b"@", b"\xe9")
    assert decode_page(body) == html(FRENCH + "\ufffd", meta("utf-8"))


def test_a_page_cut_inside_a_character_is_still_utf_8() -> None:
    assert decode_page((FRENCH + "é").encode()[:-1], "text/plain") == FRENCH + "\ufffd"


@pytest.mark.parametrize("tail", ["Maria José\n", "Maria José", "Total 5 €", "a “word”", "naïve"])
@pytest.mark.parametrize("header", ["text/plain", "text/plain; charset=iso-8859-1"])
def test_accents_at_the_end_of_a_plain_text(tail: str, header: str) -> None:
    assert decode_page((ENGLISH + tail).encode("cp1252"), header) == ENGLISH + tail


def test_a_declaration_of_utf_8_that_is_none() -> None:
    page = html(RUSSIAN, meta("utf-8"))
    assert decode_page(page.encode("cp1251"), "text/html; charset=utf-8") == page


def test_two_characters_of_gbk_that_pass_for_utf_8() -> None:
    short = html("湜", meta("gbk"))  # DB F8 would not; C4 81 .. C4 BF do
    assert decode_page(short.encode("gbk")) == short
    page = html("膩", meta("gbk")).encode("gbk")
    assert decode_page(page) == page.decode("gbk")
    assert decode_page(html("é " * 9, meta("gbk")).encode()) == html("é " * 9, meta("gbk"))


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (CHINESE, "gbk"),
        (KOREAN, "cp949"),
        (FRENCH, "cp1252"),
        ("Dzisiaj jest bardzo ładna pogoda, więc poszliśmy na spacer do parku. Źdźbło.", "cp1250"),
        ("Σήμερα ο καιρός είναι πολύ καλός και πήγαμε βόλτα στο πάρκο. " * 2, "cp1253"),
        ("วันนี้อากาศดีมาก เราไปเดินเล่นที่สวนสาธารณะ " * 3, "cp874"),
    ],
)
def test_undeclared_pages(text: str, codec: str) -> None:
    assert decode_page(html(text).encode(codec)) == html(text)
    assert decode_page(text.encode(codec), "text/plain") == text


def test_ends_of_lines_and_inner_marks() -> None:
    text = "one\u2028two\x85three\x0bfour\x0cfive\rsix\r\nseven \ufeffin\ufeffside\u2029end"
    lines = ["one", "two", "three", "four", "five", "six", "seven"]
    assert decode_page(text.encode(), "text/plain") == "\n".join(lines) + " inside\nend"
    page = f"<p>{text}</p>"
    assert decode_page(page.encode()) == "<p>one two three four five\nsix\nseven inside end</p>"


def test_the_codec_of_a_query() -> None:
    assert decode_with_codec(html(RUSSIAN, meta("windows-1251")).encode("cp1251")).codec == "cp1251"
    assert decode_with_codec(html(RUSSIAN).encode()).codec == "utf-8"
    # Forms are never sent in UTF-16 or in a charset of escapes (Encoding Standard, 4.3).
    assert decode_with_codec(("\ufeff" + RUSSIAN).encode("utf-16-le")).codec == "utf-8"


def test_every_label_has_a_codec_that_decodes() -> None:
    for label in LABELS:
        codec = find_codec(label)
        if codec is not None:
            assert "a" in "a".encode(codec, "ignore").decode(codec)
    assert find_codec("utf-7") is None
    assert find_codec("base64") is None


def test_pages_built_to_be_slow_are_decoded_all_the_same() -> None:
    for part in (b"<script ", b"<", b"<!--", b"\x1b$B\x1b(B", b"<meta charset=", b"\xe9\x80"):
        for header in ("", "text/html; charset=euc-jp"):
            assert decode_page(part * 60_000 + b"\xff end", header).endswith(" end")
