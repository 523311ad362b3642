"""Pages in the charsets of the web, declared in every place that counts or in none.

Header, declaration and bytes tell the charset of each. A page holds a passage in a language behind
a word of its own, so it is known again in whatever a reader gives.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from benchmarks.curate.web.http_situations import build_response, page_word

_PASSAGES = {
    "ar": "وصل القطار متأخرًا هذا الصباح، فذهبنا إلى السوق القديم واشترينا خبزًا وتمرًا وزيتونًا.",
    "bg": "Влакът закъсня тази сутрин, затова отидохме на стария пазар и купихме хляб и мед.",
    "cs": "Vlak měl dnes ráno zpoždění, a tak jsme šli na staré tržiště a koupili čerstvý chléb.",
    "de": "Der Zug war heute früh zu spät; darum gingen wir über die Brücke und kauften Brötchen.",
    "el": "Το τρένο άργησε σήμερα το πρωί, γι' αυτό πήγαμε στην παλιά αγορά και πήραμε ψωμί.",
    "fr": "Le train était en retard ce matin, alors nous sommes allés au marché, près de l'église.",
    "he": "הרכבת איחרה הבוקר, ולכן הלכנו לשוק הישן וקנינו לחם טרי, זיתים ותפוחים אדומים.",
    "hu": "A vonat ma reggel késett, ezért a régi piacra mentünk, és friss kenyeret vettünk ott.",
    "ja": "今朝は電車が遅れたので、古い市場まで歩いて行き、焼きたてのパンとりんごを買いました。",
    "ko": "오늘 아침 기차가 늦게 와서 우리는 오래된 시장까지 걸어가 갓 구운 빵과 사과를 샀다.",
    "lt": "Šį rytą traukinys vėlavo, todėl nuėjome į senąjį turgų ir nusipirkome šviežios duonos.",
    "pl": "Pociąg się dziś rano spóźnił, więc poszliśmy na stary targ i kupiliśmy świeży chleb.",
    "ru": "Поезд сегодня утром опоздал, поэтому мы пошли на старый рынок и купили свежего хлеба.",
    "th": "เช้านี้รถไฟมาสาย เราจึงเดินไปที่ตลาดเก่าและซื้อขนมปังสดกับแอปเปิลสีแดง",
    "tr": "Tren bu sabah geç kaldı, biz de eski çarşıya yürüdük ve ışıklı fırından ekmek aldık.",
    "uk": "Потяг сьогодні вранці запізнився, тож ми пішли на старий ринок і купили свіжий хліб.",
    "vi": "Sáng nay tàu đến muộn nên chúng tôi đi bộ ra chợ cũ và mua bánh mì nóng với táo đỏ.",
    "zh": "今天早上火车晚点了，我们就走到老市场，买了刚出炉的面包和几个红苹果，天气非常好。",
    "zh-tw": "今天早上火車誤點了，我們就走到老市場，買了剛出爐的麵包和幾顆紅蘋果，天氣非常好。",
}
_CHARSETS = (
    ("ar", "cp1256", "windows-1256"),
    ("ar", "iso8859-6", "ISO-8859-6"),
    ("bg", "cp1251", "cp1251"),
    ("cs", "cp1250", "windows-1250"),
    ("cs", "iso8859-2", "latin2"),
    ("de", "cp1252", "iso-8859-1"),
    ("de", "mac_roman", "macintosh"),
    ("el", "iso8859-7", "greek"),
    ("el", "cp1253", "windows-1253"),
    ("fr", "cp1252", "us-ascii"),
    ("fr", "iso8859-15", "ISO-8859-15"),
    ("he", "cp1255", "windows-1255"),
    ("he", "iso8859-8", "iso-8859-8-i"),
    ("hu", "iso8859-2", "ISO-8859-2"),
    ("ja", "cp932", "Shift_JIS"),
    ("ja", "euc_jp", "x-euc-jp"),
    ("ja", "iso2022_jp", "iso-2022-jp"),
    ("ko", "cp949", "ks_c_5601-1987"),
    ("lt", "cp1257", "windows-1257"),
    ("pl", "iso8859-2", "ISO_8859-2"),
    ("ru", "cp1251", "windows-1251"),
    ("ru", "koi8-r", "koi8"),
    ("ru", "cp866", "ibm866"),
    ("th", "cp874", "tis-620"),
    ("tr", "cp1254", "iso-8859-9"),
    ("uk", "koi8-u", "koi8-u"),
    ("vi", "utf-8", "unicode-1-1-utf-8"),
    ("zh", "gbk", "gb2312"),
    ("zh", "gb18030", "gb18030"),
    ("zh-tw", "big5", "big5-hkscs"),
    ("ru", "utf-8", "utf8"),
)
"""(language, Python's codec, a label that the Encoding Standard has for it)."""
_UNDECLARED = (
    ("ar", "cp1256"),
    ("bg", "cp1251"),
    ("cs", "cp1250"),
    ("de", "cp1252"),
    ("el", "cp1253"),
    ("fr", "cp1252"),
    ("he", "cp1255"),
    ("hu", "iso8859-2"),
    ("ja", "cp932"),
    ("ja", "euc_jp"),
    ("ja", "iso2022_jp"),
    ("ko", "cp949"),
    ("pl", "iso8859-2"),
    ("pl", "cp1250"),
    ("ru", "cp1251"),
    ("ru", "koi8-r"),
    ("ru", "cp866"),
    ("th", "cp874"),
    ("tr", "cp1254"),
    ("uk", "koi8-u"),
    ("zh", "gb18030"),
    ("zh-tw", "big5"),
    ("ru", "utf-8"),
    ("fr", "utf-8"),
    ("ja", "utf-8"),
    ("ru", "utf-16-le"),
    ("de", "utf-16-be"),
)
_MARKS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
}


@dataclass(frozen=True)
class CharsetPage:
    """A page that a server sends, and the passage that a reader should find in it."""

    name: str
    response: bytes
    passage: str
    is_declared: bool

    @property
    def target(self) -> str:
        return f"/charsets/{self.name}"


def list_charset_pages() -> list[CharsetPage]:
    """All pages."""
    pages = []
    for language, codec, label in _CHARSETS:
        for way in ("header", "meta", "http-equiv", "xml"):
            pages.append(_declare(language, codec, label, way))
    pages += [_declare("ru", codec, "", "mark") for codec in _MARKS]
    pages += [_declare("ru", "cp1251", "windows-1251", way) for way in _ODD_WAYS]
    pages += [_declare(language, codec, "", "") for language, codec in _UNDECLARED]
    return pages


_ODD_WAYS = ("quoted", "late", "script", "contradicted", "plain", "upper")


def _declare(language: str, codec: str, label: str, way: str) -> CharsetPage:
    """Page in a charset.

    Args:
        language: Language of its passage.
        codec: Python's name of the charset.
        label: Its label in the declaration.
        way: Place of the declaration; empty for none.
    """
    name = "_".join(filter(None, (language, codec, label, way or "undeclared")))
    passage = f"{page_word(name)} {_PASSAGES[language]}"
    meta = f'<meta charset="{label}">'
    head, media_type, start = {
        "header": ("", f"text/html; charset={label}", ""),
        "meta": (meta, "text/html", ""),
        "http-equiv": (
            f'<meta http-equiv="Content-Type" content="text/html; charset={label}">',
            "text/html",
            "",
        ),
        "xml": ("", "application/xhtml+xml", f'<?xml version="1.0" encoding="{label}"?>'),
        "quoted": ("", f"text/html; Charset='{label}'", ""),
        "late": (f"<!-- {'x' * 700} -->{meta}", "text/html", ""),
        "script": (f"<script>'<meta charset=utf-8>'</script>{meta}", "text/html", ""),
        "contradicted": ('<meta charset="utf-8">', f"text/html; charset={label}", ""),
        "upper": (f"<META CHARSET={label.upper()}>", "TEXT/HTML", ""),
        "plain": ("", f"text/plain; charset={label}", ""),
    }.get(way, ("", "text/html", ""))
    body = f"{start}<html><head>{head}<title>t</title></head><body><p>{passage}</p></body></html>"
    if way == "plain":
        body = passage
    content = (_MARKS[codec] if way == "mark" else b"") + body.encode(codec)
    return CharsetPage(name, build_response(content, media_type=media_type), passage, bool(way))
