"""Words that tell what a part of a page is: in its class and id, and in its own text.

The groups are those of Readability's and trafilatura's lists, widened; none names a site.
"""

from __future__ import annotations

import re
from collections.abc import Sequence


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CLASS_WORDS = {
    "body": "articlebody body storybody entrycontent postcontent articletext storytext bodytext "
    "articlecontent bodycopy richtext wysiwyg prose",
    "article": "article story entry post blog hentry news",
    "content": "content main text copy page inner column",
    "paragraph": "paragraph para p wp element block component",
    "title": "title headline hed heading head subject name",
    "lead": "lead lede dek deck intro summary excerpt standfirst subtitle subhead subheadline "
    "description abstract teaser subheading",
    "byline": "byline author authors writer contributor contributors bio profile reporter avatar",
    "date": "date time timestamp published datetime pubdate updated dateline posted",
    "meta": "meta metadata info details postmeta kicker eyebrow label stats views",
    "tags": "tag tags category categories topic topics keyword keywords breadcrumb breadcrumbs "
    "taxonomy terms filed",
    "share": "share sharing social facebook twitter addthis sharedaddy sns follow like tools "
    "toolbar print email actions",
    "related": "related recommended recommend recirc recirculation more also readmore next prev "
    "previous trending popular latest similar promo promoted promobox outbrain taboola tease "
    "relatedposts further suggested mostread other pager pagination",
    "embed": "embed embedded tweet instagram oembed video media player youtube widget iframe",
    "caption": "caption figcaption credit credits photo image img picture figure wp-caption "
    "gallery "
    "slide slideshow carousel thumbnail thumb lightbox",
    "advert": "ad ads advert advertisement adv sponsor sponsored banner dfp commercial advertise "
    "adsense affiliate deal deals shop buy product price",
    "signup": "newsletter subscribe subscription signup sign register login paywall premium cta "
    "join donate membership form input offer",
    "nav": "nav navigation menu navbar masthead topbar submenu dropdown links sitemap skip jump",
    "header": "header top",
    "footer": "footer foot bottom copyright legal disclaimer",
    "sidebar": "sidebar aside rail side secondary right left sidecol complementary",
    "comment": "comment comments disqus respond reply replies discussion livefyre coral feedback "
    "commentlist responses",
    "card": "card item items grid tile row listing feed module headlines stream",
    "hidden": "hidden hide sr screen visually invisible offscreen collapse collapsed",
    "modal": "modal popup overlay cookie cookies consent gdpr dialog notice alert lightbox tooltip "
    "toast",
    "quote": "quote pullquote blockquote pull",
    "fact": "factbox box infobox callout inset sidebox note table toc contents highlight "
    "highlights "
    "interstitial insert",
    "search": "search query filter results",
    "poll": "poll quiz survey vote rating ratings score review",
}
CLASS_GROUPS = tuple(_CLASS_WORDS)
_CLASS_BIT: dict[str, int] = {}
for _bit, _listed in enumerate(_CLASS_WORDS.values()):
    for _word in _listed.split():
        _CLASS_BIT[_word] = _CLASS_BIT.get(_word, 0) | 1 << _bit
_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_WHOLE = _words("article story post entry blog news main single content body page")
_INSIDE = _words("body content contents text copy")
_BODY_BIT = 1


def class_cues(names: str) -> int:
    """Bits of ``CLASS_GROUPS`` for the words in a class or id attribute."""
    bits, before = 0, ""
    for part in _PART.findall(names):
        word = part.lower()
        if word in _INSIDE and before in _WHOLE:
            bits |= _BODY_BIT
        before = word
        found = _CLASS_BIT.get(word)
        if found is None and word[-1] == "s":
            found = _CLASS_BIT.get(word[:-1])
        if found:
            bits |= found
    return bits


def class_words(whole: int, inside: int) -> dict[str, int]:
    """The bits of every word that ``class_cues`` knows; flags for those that it knows in pairs."""
    known = dict(_CLASS_BIT)
    for flag, words in ((whole, _WHOLE), (inside, _INSIDE)):
        for word in words:
            known[word] = known.get(word, 0) | flag
    return known


_REPLIES = (
    r"(?:comments?|repl(?:y|ies)|responses?|kommentare?|comentários?|comentarios?|commenti|"
    r"commentaires?)\b"
)
_TEXT_PATTERNS = {
    "more": r"(?:read|see|learn|find out|hear|watch|view|show|get|click)\b.{0,20}\b(?:more|also|"
    r"next|here|"
    r"all)\b|(?:also|more) (?:on|from|in|read)\b|related\b|recommended|you (?:may|might) "
    r"(?:also )?like|"
    r"don.t miss|most (?:read|popular|viewed|shared)|trending|next (?:article|story|post)|"
    r"previous |"
    r"lire aussi|leia (?:mais|também)|veja (?:mais|também)|saiba mais|lesen sie|mehr zum|auch "
    r"interessant|"
    r"leggi anche|lee también|te puede interesar|lea también|читайте также|baca juga|lees ook|"
    r"läs mer|"
    r"zobacz|czytaj|关连|相关|関連|続きを",
    "follow": r"(?:follow|like|find|join|contact|email|e-mail|tweet)\b.{0,40}\b(?:us|him|her|"
    r"them|me|"
    r"twitter|facebook|instagram|at)\b|share (?:this|on|via)|tweet$|e?mail$|print$|@\w+$",
    "signup": r"subscribe|sign ?up|sign in|log ?in|register|get (?:the|our|your|unlimited)\b|"
    r"newsletter|"
    r"download (?:the|our)|support (?:us|our)|donate|become a|advertis|sponsor|this (?:article|"
    r"story|post) "
    r"(?:contains|was|is|first|originally|appeared|may)|we may earn|abonn|inscreva|assine|suscr|"
    r"iscriviti",
    "legal": r"©|\(c\) |copyright|all rights reserved|terms (?:of|and)|privacy|cookies?\b|"
    r"disclaimer|"
    r"this (?:material|copy|site|website)|powered by|reprint|licen[cs]e|alle rechte|todos os "
    r"direitos|"
    r"todos los derechos|tutti i diritti|tous droits",
    "credit": r"(?:photo|image|picture|video|pic|graphic|credit|source|photograph|illustration|"
    r"foto|bild|"
    r"imagem|fonte|quelle|fuente|crédit|immagine|via)s?\b(?: (?:by|credit|source|via|"
    r"courtesy))?\s?[:/(]|(?:photo|image|picture|illustration) (?:by|courtesy|credit)",
    "byline": r"by [a-z]|(?:posted|published|written|updated|last (?:updated|modified)|reported|"
    r"edited)\b|"
    r"(?:von|por|par|di|da|door|oleh|автор) [a-záé]|autor|publi[ck]ad|publicado|veröffentlicht|"
    r"geschrieben|"
    r"(?:author|editor|reporter|correspondent)\b",
    "date": r"\d+ (?:min|hour|day|week|month|year|minute)s?\b.{0,12}(?:ago|read)",
    "tags": r"(?:tags?|filed under|categor(?:y|ies)|topics?|keywords?|in this article|labels?|"
    r"etiquetas|"
    r"categoria|schlagw|kategorie|sujets|argomenti|теги)\b",
    "comment": rf"{_REPLIES}|\d+ ?{_REPLIES}|leave a|post a comment|add (?:a )?comment|"
    r"reply$|join the "
    r"(?:conversation|"
    r"discussion)|what do you think|let us know|comments",
    "advert": r"advertisement|ad$|sponsored|promoted|story continues|continue reading|scroll|"
    r"loading|"
    r"please enable|your browser|anzeige|publicidade|publicidad|pubblicità|buy now|\$\d|shop ",
    "embed": r"pic\.twitter|a post shared by|view this post|play video|watch:|listen:",
    "update": r"update|correction|editor.s note|note:|this story|breaking|caption|source:|read:|"
    r"watch",
}
TEXT_GROUPS = tuple(_TEXT_PATTERNS)
_AGENCIES = ("getty", "reuters", "shutterstock", "afp", "istock", "file photo")
_INNER_PATTERNS = (
    ("credit", "(", r".{0,60}\((?:photo|image|picture|ap photo)"),
    *(("credit", name, rf".{{0,80}}{name}.{{0,25}}$") for name in _AGENCIES),
    (
        *("byline", "s a"),
        r".{0,60}\b(?:is an?|was an?) .{0,50}(?:writer|author|editor|reporter|journalist|"
        r"correspondent|blogger|contributor|freelance)",
    ),
    ("embed", "pic.twitter.com", ""),
    ("embed", "t.co/", ""),
    ("embed", "(@", r".*\(@\w+\) \w+ \d"),
    ("embed", ":", r".{0,40}\d:\d\d$"),
)
"""(group, what must be in the text, pattern) of what may begin with anything."""
_DATE = re.compile(
    r"(?:\w+,? )?(?:\d{1,2}[ ./-](?:\d{1,2}|\w{3,10})\.?[ ./-]\d{2,4}|"
    r"\w{3,9}\.? \d{1,2},? \d{4}|\d{4}-\d\d-\d\d)"
)
_DIGIT = re.compile(r"\d")
_DATE_BIT = 1 << TEXT_GROUPS.index("date")


def _alternatives(pattern: str) -> list[str]:
    """What stands between the bars outside of all groups."""
    parts, depth = [""], 0
    for part in re.findall(r"\\.|\[[^]]*\]|.", pattern):
        depth += (part == "(") - (part == ")")
        if part == "|" and not depth:
            parts.append("")
        else:
            parts[-1] += part
    return parts


def _firsts(pattern: str) -> set[str]:
    """The characters that a match may begin with: a literal, a digit, a group of such."""
    found: set[str] = set()
    for one in _alternatives(pattern):
        if one.startswith("(?:"):
            head = next(end for end in range(4, len(one)) if _is_whole(one[:end]))
            found |= _firsts(one[3 : head - 1])
        elif one.startswith("\\"):
            head = 2
            found |= set("0123456789") if one[1] == "d" else {one[1]}
        else:
            head = 1
            found.add(one[0])
        if one[head : head + 1] == "?":
            found |= _firsts(one[head + 1 :])
    return found


def _is_whole(pattern: str) -> bool:
    plain = re.sub(r"\\.", "", pattern)
    return plain.count("(") == plain.count(")")


def _by_first() -> dict[str, list[tuple[re.Pattern[str], int]]]:
    """First character of a text -> what of each group may match it."""
    sorted_out: dict[str, dict[int, list[str]]] = {}
    for bit, pattern in enumerate(_TEXT_PATTERNS.values()):
        for one in _alternatives(pattern):
            for first in _firsts(one):
                sorted_out.setdefault(first, {}).setdefault(1 << bit, []).append(one)
    return {
        first: [(re.compile("|".join(listed)), bit) for bit, listed in groups.items()]
        for first, groups in sorted_out.items()
    }


_BY_FIRST = _by_first()
Inner = tuple[str, re.Pattern[str], int]
_INNER: tuple[Inner, ...] = tuple(
    (needed, re.compile(pattern), 1 << TEXT_GROUPS.index(group))
    for group, needed, pattern in _INNER_PATTERNS
)
CUE_CHARS = 250
"""What is longer than this is a paragraph, whatever it begins with."""


def inner_patterns(page: str) -> list[Inner]:
    """Those patterns of what may stand inside a text that can match in a page."""
    return [one for one in _INNER if one[0] in page]


def text_cues(text: str, inner: Sequence[Inner] = _INNER) -> int:
    """Bits of ``TEXT_GROUPS`` for how a text in lower case begins.

    Patterns are sorted by their first character, so that a text meets few of them.
    """
    bits = 0
    if not 0 < len(text) <= CUE_CHARS:
        return bits
    for pattern, bit in _BY_FIRST.get(text[0], ()):
        if pattern.match(text):
            bits |= bit
    for needed, pattern, bit in inner:
        if needed in text and pattern.match(text):
            bits |= bit
    if _DIGIT.search(text) and _DATE.match(text):
        bits |= _DATE_BIT
    return bits


def _mask(groups: str) -> int:
    return sum(1 << CLASS_GROUPS.index(group) for group in groups.split())


UNLIKELY = _mask(
    "comment related footer sidebar nav modal hidden signup search advert share tags poll card"
)
"""Groups whose parts are seldom the page's text."""
COMMENT = _mask("comment")
"""Comments may well be most of a page's text."""
TALK = 1 << TEXT_GROUPS.index("comment")
"""The heading of the comments."""
