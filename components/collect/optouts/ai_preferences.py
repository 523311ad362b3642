"""AI preferences in key=value form: Content-Signal and the IETF's Content-Usage.

``Content-Signal: search=yes, ai-train=no`` (contentsignals.org) stands in robots.txt groups, as
does ``Content-Usage: train-ai=n`` (drafts aipref-vocab and aipref-attach), which may be a header
too. Either may begin with a path. A use that is not mentioned is neither granted nor reserved.
"""

from __future__ import annotations

from components.collect.optouts.optout_policy import OptoutSignal, OptoutVerdict

PREFERENCE_KEYS = ("content-signal", "content-usage")
_TRAINING = {
    "content-signal": ("ai-train",),
    "content-usage": ("train-ai", "train-genai", "genai", "ai", "bots"),
}
_NO, _YES = ("no", "n", "?0"), ("yes", "y", "?1")


def parse_preferences(key: str, value: str, evidence: str, source: str) -> list[OptoutSignal]:
    """Parse the signals about training in one preference line.

    Args:
        key: One of ``PREFERENCE_KEYS``.
        value: The line's value, without its path.
        evidence: The line as it was written.
        source: Where it was written.
    """
    signals: list[OptoutSignal] = []
    for part in value.split(","):
        name, _, answer = part.strip().lower().partition("=")
        name, answer = name.strip(), answer.strip()
        if name in _TRAINING[key] and answer in (*_NO, *_YES):
            verdict: OptoutVerdict = "denied" if answer in _NO else "allowed"
            signals.append(OptoutSignal(key, f"{name}={answer}", verdict, evidence, source))
    return signals


def split_path(value: str) -> tuple[str, str]:
    """Split a value into its path pattern (``/`` where it has none) and the rest."""
    if not value.startswith("/"):
        return "/", value
    path, _, rest = value.partition(" ")
    return path, rest.strip()
