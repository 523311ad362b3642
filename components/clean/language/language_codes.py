"""Codes of the built-in languages, and the codes that stand for several of them."""

from __future__ import annotations

_CODES = """
ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext
fa fi fo fr fuv fy ga gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja
jv ka kab kik kk km kn ko ku ky la lb lg lij ln lo lt ltg lv mg mk ml mn mr ms mt my ne nl nn no
nso oc om or pa pcm pl ps pt qu ro ru rw sa sdh se si sk sl sn so sq sr st sv sw ta te tg th tk
tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue zh zu
"""
BUILTIN_LANGUAGES = frozenset(_CODES.split())
"""Languages that py3langid 0.4 names. Its model is not opened to read a config."""
MEMBERS = {
    "ar": ("ar", "ary", "arz"),
    "ff": ("fuv",),
    "fil": ("tl",),
    "gn": ("gug",),
    "ki": ("kik",),
    "kok": ("gom",),
    "ku": ("ku", "sdh"),
    "nb": ("no",),
    "no": ("no", "nn"),
    "sh": ("bs", "hr", "sr"),
    "uz": ("uz", "uzs"),
    "zh": ("zh", "wuu", "yue"),
}
"""Code that a user writes -> codes that the detector answers with: members of a macrolanguage (ISO
639-3), longer codes of one language, and Bokmål, which the detector calls Norwegian."""


def expand_codes(codes: tuple[str, ...]) -> frozenset[str]:
    """The codes, and those that the detector answers with for them."""
    return frozenset(code for given in codes for code in (given, *MEMBERS.get(given, ())))


def unknown_codes(codes: tuple[str, ...], learnt: frozenset[str], *, builtin: bool) -> list[str]:
    """Codes that no page can get, sorted.

    Args:
        codes: Codes of a config.
        learnt: Codes of the user's examples.
        builtin: The built-in languages are there too.
    """
    named = learnt | (BUILTIN_LANGUAGES if builtin else frozenset())
    return sorted(code for code in codes if not expand_codes((code,)) & named)
