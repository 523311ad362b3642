"""AI preferences in key=value form: Content-Signal and the IETF's Content-Usage.

``Content-Signal: search=yes, ai-train=no`` (contentsignals.org) stands in robots.txt groups, as
does ``Content-Usage: train-ai=n`` (drafts aipref-vocab and aipref-attach), which may be a header
too. Either may name a path first. A use that is not mentioned is neither granted nor reserved.
"""

from __future__ import annotations

from components.collect.optouts.optout_policy import Signal, Verdict

KEYS = ("content-signal", "content-usage")
_TRAINING = {
    "content-signal": ("ai-train",),
    "content-usage": ("train-ai", "train-genai", "genai", "ai", "bots"),
}
_NO, _YES = ("no", "n", "?0"), ("yes", "y", "?1")


def read_preferences(key: str, value: str, evidence: str, source: str) -> list[Signal]:
    """Signals about training in one line, whose path is taken off already."""
    found: list[Signal] = []
    for part in value.split(","):
        name, _, said = part.strip().lower().partition("=")
        name, said = name.strip(), said.strip()
        if name in _TRAINING[key] and said in (*_NO, *_YES):
            verdict: Verdict = "denied" if said in _NO else "allowed"
            found.append(Signal(key, f"{name}={said}", verdict, evidence, source))
    return found


def split_path(value: str) -> tuple[str, str]:
    """(the path pattern that a line starts with, everything when there is none; the rest)."""
    if not value.startswith("/"):
        return "/", value
    path, _, rest = value.partition(" ")
    return path, rest.strip()
