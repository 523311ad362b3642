"""Topics of headings, told from labels, numbers, versions and dates.

The lists are of what documentation generators and their readers' habits put into headings: Sphinx,
numpydoc, pdoc, MkDocs, Docusaurus, Antora, Doxygen, Javadoc, rustdoc, man pages, keep-a-changelog.
"""

from __future__ import annotations

import re

_ADMONITIONS = (
    r"notes?|nota bene|tips?|pro tip|hints?|important|caution|attention|warnings?|danger|info|"
    r"information|errors?|see ?also|see also|good to know|heads[- ]up|did you know|key points?|"
    r"key takeaways?|beta|preview|experimental|deprecated|unstable|obsolete|admonition|todo|"
    r"disclaimer|tl;?dr|remarks?|reminder|trivia|spoiler|aside|quote|abstract|success|question|"
    r"failure|bug"
)
_PARTS_OF_A_PAGE = (
    r"(?:table of |module |package )?contents|toc|index|index(?:es)?|indices and tables|search|"
    r"(?:on|in) this (?:page|article|section|chapter|guide|topic)|navigation|menu|breadcrumbs?|"
    r"next|previous|up|home|back to top|next steps?|what'?s next|related|"
    r"related (?:topics|pages|articles|links|resources|information)|further reading|"
    r"learn more|read more|more information|additional (?:resources|information)|resources|links|"
    r"(?:external|useful|quick) links|feedback|give feedback|was this (?:page )?helpful|"
    r"edit this page|last updated|page history|comments?|share|authors?|contributors?|credits|"
    r"acknowledge?ments?|licen[cs]e|copyright|legal|footnotes?|bibliography|references?|citations?|"
    r"glossary|appendix|appendices|preface|foreword|introduction|intro|overview|summary|abstract|"
    r"conclusions?|prerequisites?|requirements|before you begin|background|motivation|about|"
    r"changes|change ?log|release notes|history|what'?s new|news|list of (?:figures|tables)"
)
_PARTS_OF_A_MEMBER = (
    r"api|api (?:reference|documentation)|reference|usage|synopsis|syntax|signature|description|"
    r"detailed description|details|definition|declaration|prototype|name|options|"
    r"(?:other |keyword |type |template |optional |required )?(?:parameters?|arguments?|args)|"
    r"returns?|return (?:values?|types?)|yields?|receives|raises|throws|exceptions?|exit (?:status|"
    r"codes?)|side effects|methods?|method (?:summary|details?)|attributes?|properties|property|"
    r"fields?|field (?:summary|details?)|members?|functions?|classes|class|constructors?|"
    r"constructor (?:summary|details?)|modules?|module contents|packages?|package contents|"
    r"sub-?packages?|sub-?modules?|super-?module|structs?|enums?|enumerations?|traits?|macros?|"
    r"type aliases|typedefs?|types?|interfaces?|constants?|statics?|variables?|(?:global|class|"
    r"instance) variables|static methods|class methods|inherited members|inheritance|ancestors|"
    r"(?:known )?subclasses|superclasses|descendants|re-?exports|panics|safety|implementations|"
    r"(?:auto |blanket )?(?:trait )?implementations|implements|implemented by|inherits from|"
    r"(?:static )?(?:public|protected|private)(?: static)? (?:member functions|attributes|types|"
    r"methods|slots|signals)|(?:member |macro |enumeration |typedef |friend )?(?:function|data|"
    r"definition|type|enum)s? documentation|source(?: code)?|files?|environment|diagnostics|"
    r"standards|bugs|caveats|complexity|availability|compatibility|output|input|result|results|"
    r"default|defaults|values?|examples?|code examples?|sample(?: code)?|code|demo|solution|"
    r"explanation|discussion"
)
_PARTS_OF_A_RELEASE = (
    r"added|changed|deprecated|removed|fixed|security|unreleased|bug ?fixes|bugs fixed|fixes|"
    r"features|new features|enhancements|improvements|breaking(?: changes?)?|"
    r"backwards?[- ]incompatible changes|deprecations?|deprecations and removals|removals|"
    r"highlights|miscellaneous|misc|internal(?: changes)?|dependencies|documentation|docs|"
    r"performance(?: improvements)?|migration|upgrade notes|known issues|other(?: changes)?"
)
_LABEL = re.compile(
    "|".join((_ADMONITIONS, _PARTS_OF_A_PAGE, _PARTS_OF_A_MEMBER, _PARTS_OF_A_RELEASE)),
    re.IGNORECASE,
)
_ROMAN = r"(?=[IVXL])(?:XL|L?X{0,3})(?:IX|IV|V?I{0,3})"  # below 90, so CLI and CI are none
_ORDINAL = rf"(?:\d+(?:[.\-\u2013]\d+)*[a-z]?|{_ROMAN}|[A-Z])"
_COUNTED = re.compile(
    r"(?i:examples?|fig(?:ure)?|tables?|listings?|equations?|eq|chapters?|sections?|sec|parts?|"
    r"appendix|steps?|exercises?|questions?|problems?|theorem|lemma|proposition|corollary|"
    r"definition|algorithm|diagram|images?|video|box|notes?|case|lessons?|units?|slides?|pages?|"
    r"volumes?|items?|answers?|solutions?|scenario|option|task|topic|rule|article|annex|clause|"
    r"footnote)\.?\s+#?" + _ORDINAL + r"(?:\s*[.:)\u2013\u2014-]+\s*|\s*$)"
)
_NUMBERED = re.compile(
    rf"(?:§+\s*)?(?:\d+(?:\.\d+)+[.)]?|\d+[.)]|[A-Z](?:\.\d+)+[.)]?|[A-Z][.)]|{_ROMAN}[.)]|"
    rf"{_ROMAN}$|\(\w{{1,4}}\))(?:\s+|$)"
)
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_DATE = (
    rf"(?:\d{{4}}[-/.]\d{{1,2}}(?:[-/.]\d{{1,2}})?|\d{{1,2}}[-/.]\d{{1,2}}[-/.]\d{{2,4}}|"
    rf"(?:{_DAY}\s+)?{_MONTH}(?:\s+{_DAY})?,?(?:\s+\d{{4}})?|(?:19|20)\d\d|"
    r"(?:not yet |un)released|tbd|tba|x{4}-x{2}-x{2})"
)
_VERSION = (
    r"v?\d+(?:\.(?:\d+|x))*(?:[-.+]?(?:alpha|beta|rc|dev|post|final|snapshot|a|b|c|pre|preview)"
    r"[-.]?\d*)*(?:\+[\w.]+)?"
)
_DATED = rf"[(\[]?(?:released:?\s+(?:on\s+)?)?{_DATE}[)\]]?"
_RELEASE = re.compile(
    rf"{_DATED}|"
    r"(?:(?:version|release|changes (?:in|since)|new in(?: version)?|milestone|build)\s+)?"
    rf"\[?{_VERSION}\]?(?:\s*[-\u2013\u2014:,@/]?\s*{_DATED})?|"
    # a project's name before it is a topic (OAuth 2.0), but for a patch release or a date
    rf"[\w.-]+\s+(?:v?\d+\.\d+\.\d+\S*|{_VERSION}\s*[-\u2013\u2014]?\s*(?=[(\[]|.*\d{{4}}){_DATED})"
    rf"(?:\s*{_DATED})?",
    re.IGNORECASE,
)
_PERMALINK = re.compile(r"(?:[¶\u200b\uf0c1]|(?<!\b[A-Z])#)+\s*$")  # not the # of C#
_EDGES = " \t:.?!-\u2013\u2014"

MAX_CHARACTERS = 300
"""A longer heading is text, and would cost the square of its length."""


def topic_of(heading: str) -> str | None:
    """The topic a heading names, without its section number or label.

    ``28.2.16 Proxies`` and ``Example 3: Proxies`` name ``Proxies``; ``28.2.16``, ``Example 3``,
    ``Caution``, ``v2.0.1 (2024-05-01)``, ``Parameters`` and ``A`` name nothing.

    Returns:
        The topic; None where there is none to ask about.
    """
    if len(heading) > MAX_CHARACTERS or names_release(heading):
        return None
    topic = _bare(heading)
    for start in (_NUMBERED, _COUNTED):
        numbered = start.match(topic)
        if numbered:
            topic = topic[numbered.end() :].strip(_EDGES)
    letters = sum(character.isalpha() for character in topic)
    if letters < 2 or _LABEL.fullmatch(topic) or names_release(topic):
        return None
    return topic


def names_release(heading: str) -> bool:
    """True for a heading that is a version or a date and nothing else, as in change logs."""
    if len(heading) > MAX_CHARACTERS:
        return False
    return _RELEASE.fullmatch(_bare(heading)) is not None


def _bare(heading: str) -> str:
    """Without the permalink that generators put behind it, and punctuation around it."""
    return _PERMALINK.sub("", heading.strip()).strip(_EDGES)
