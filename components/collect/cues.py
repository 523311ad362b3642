"""Words that tell what a part of a page is: in its class and id, and in its own text.

The groups are those of Readability's and trafilatura's lists, widened; none names a site.
"""

from __future__ import annotations

import re


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
    r"courtesy))?\s?[:/(]|"
    r".{0,60}\((?:photo|image|picture|ap photo)|.{0,80}(?:getty|reuters|shutterstock|afp|istock|"
    r"file photo)"
    r".{0,25}$|(?:photo|image|picture|illustration) (?:by|courtesy|credit)",
    "byline": r"by [A-Z]|(?:posted|published|written|updated|last (?:updated|modified)|reported|"
    r"edited)\b|"
    r"(?:von|por|par|di|da|door|oleh|автор) [A-ZÁÉ]|autor|publi[ck]ad|publicado|veröffentlicht|"
    r"geschrieben|"
    r"(?:author|editor|reporter|correspondent)\b|.{0,60}\b(?:is an?|was an?) .{0,50}(?:writer|"
    r"author|editor|"
    r"reporter|journalist|correspondent|blogger|contributor|freelance)",
    "date": r"(?:\w+,? )?(?:\d{1,2}[ ./-](?:\d{1,2}|\w{3,10})\.?[ ./-]\d{2,4}|\w{3,9}\.? "
    r"\d{1,2},? \d{4}|"
    r"\d{4}-\d\d-\d\d)|\d+ (?:min|hour|day|week|month|year|minute)s?\b.{0,12}(?:ago|read)",
    "tags": r"(?:tags?|filed under|categor(?:y|ies)|topics?|keywords?|in this article|labels?|"
    r"etiquetas|"
    r"categoria|schlagw|kategorie|sujets|argomenti|теги)\b",
    "comment": r"\d* ?(?:comments?|repl(?:y|ies)|responses?|kommentare?|comentários?|comentarios?|"
    r"commenti|commentaires?)\b|leave a|post a comment|add (?:a )?comment|reply$|join the "
    r"(?:conversation|"
    r"discussion)|what do you think|let us know|comments",
    "advert": r"advertisement|ad$|sponsored|promoted|story continues|continue reading|scroll|"
    r"loading|"
    r"please enable|your browser|anzeige|publicidade|publicidad|pubblicità|buy now|\$\d|shop ",
    "embed": r"pic\.twitter|.*(?:pic\.twitter\.com|t\.co/)|.*\(@\w+\) \w+ \d|a post shared by|"
    r"view this post|"
    r"play video|watch:|listen:|.{0,40}\d:\d\d$",
    "update": r"update|correction|editor.s note|note:|this story|breaking|caption|source:|read:|"
    r"watch",
}
TEXT_GROUPS = tuple(_TEXT_PATTERNS)
_TEXT_BITS = tuple(
    (re.compile(pattern, re.IGNORECASE), 1 << bit)
    for bit, pattern in enumerate(_TEXT_PATTERNS.values())
)
CUE_CHARS = 250
"""What is longer than this is a paragraph, whatever it begins with."""


def text_cues(text: str) -> int:
    """Bits of ``TEXT_GROUPS`` for how a text begins."""
    bits = 0
    if len(text) > CUE_CHARS:
        return bits
    for pattern, bit in _TEXT_BITS:
        if pattern.match(text):
            bits |= bit
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
