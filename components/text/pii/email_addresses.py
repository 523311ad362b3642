"""Detection of e-mail addresses in text, also of those that are spelled out against harvesters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from tld import is_tld

from components.text.pii.pii_tables import EXAMPLE_DOMAINS, EXAMPLE_HOSTS, EXAMPLE_NAMES
from components.text.spans import Span, make_span

_AT = re.compile(r"@")
_MASKED_AT = re.compile(r" ?[\[({<] ?(?:at|AT|@) ?[\])}>] ?")
_DOT = re.compile(r" ?[\[({<] ?(?:dot|DOT|\.) ?[\])}>] ?")
_LOCAL = re.compile(r"[^\W_](?:[\w.%+'&-]{0,62}[\w%+-])?$")
"""RFC 5322 allows more signs (``=``, ``/``, ``!``); in text they end what stands before."""
_DOMAIN = re.compile(r"((?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8})([^\W\d_]{2,24})(?![\w-])")
_MASKED_DOMAIN = re.compile(
    r"[^\W_][\w-]{0,61}(?:(?:\.| ?[\[({<] ?(?:dot|DOT|\.) ?[\])}>] ?)[^\W_][\w-]{1,61}){1,4}"
    r"(?![\w-])"
)
_MASKED_LOCAL = re.compile(
    r"(?:[^\W_][\w-]{0,30} ?[\[({<] ?(?:dot|DOT|\.) ?[\])}>] ?){0,3}"
    r"[^\W_](?:[\w.%+-]{0,62}[\w%+-])?$"
)
_RESERVED_SUFFIXES = frozenset(("example", "test", "invalid", "localhost"))
"""RFC 2606 and 6761: no registry gives them out."""
_RETIRED_SUFFIXES = frozenset(("yu", "cs", "an", "tp", "zr"))
"""Of states that are no more; old pages hold their addresses."""
_UNIT_SUFFIXES = frozenset(("target",))
"""Registered, but ``getty@tty1.target`` is a unit of systemd."""
_LOCAL_LENGTH = 64
"""Characters before the sign, RFC 5321, section 4.5.3.1.1."""
_REMOTE_PATH = re.compile(r":(?!//)[\w~/.]")
"""``ada@host.org:notes.txt`` is a file on another machine (scp), as is a repository (git)."""
_REMOTE_LOGIN = re.compile(
    r"\b(?:ssh|scp|sftp|rsync|ssh-copy-id|mosh|sshfs)(?: +-{1,2}[\w-]+(?:[= ][\w./-]+)?){0,3} +\Z"
)
_IN_ADDRESS = re.compile(r"(?:\w://|\bwww\.)[^\s<>\"'()]*\Z|[\w.@]\Z|(?<=\S)/\Z")
"""Before a local part: an address of the web, a fediverse handle's ``@``, a principal's ``/``."""
_MESSAGE_HEADER = re.compile(
    r"(?:message-id|in-reply-to|references|content-id)\W{1,8}[^\n]{0,40}\Z", re.IGNORECASE
)
_MESSAGE_NUMBER = re.compile(
    r"\d{8,}[.-]|[\dA-F]{8}\.\d{5,}$|\d{10}\.[a-z]{2}|[\w.]*\d[\w.]*\.fsf(?:_-_)?(?:$|@)|"
    r"Pine\.|CA[\w+-]{40,}|pull-\d+-"
)
"""Local parts that mail programs number messages by: dates, addresses in memory, hashes."""


def find_emails(text: str) -> Iterator[Span]:
    """Find e-mail addresses: spans of kind ``email``; also ``ada [at] analytical [dot] org``.

    Message numbers, files of other machines (``git@host.org:path``), logins of ``ssh``, handles
    (``@ada@host.org``) and addresses of the web with a user before the host are none.
    """
    for at in (*_AT.finditer(text), *_MASKED_AT.finditer(text)):
        plain = at[0] == "@"
        local = (_LOCAL if plain else _MASKED_LOCAL).search(
            text[max(0, at.start() - _LOCAL_LENGTH) : at.start()]
        )
        domain = (_DOMAIN if plain else _MASKED_DOMAIN).match(text, at.end())
        if local is None or domain is None or ".." in local[0]:
            continue
        name = local[0]
        if "'" in name and text[domain.end() : domain.end() + 1] == "'":
            name = name.rpartition("'")[2]  # quoted, not O'Brien's
        start = at.start() - len(name)
        host = _DOT.sub(".", domain[0]).lower()
        if not _is_registered(".".join(host.split(".")[-2:])):
            continue
        is_git = local[0] == "git"
        if plain and not is_git and _names_no_mailbox(text, start, name, domain.end()):
            continue
        yield make_span((start, domain.end()), "email", _is_example(name.lower(), host))


def _is_example(local: str, host: str) -> bool:
    """True for a mailbox of documentation: a reserved domain, a domain or a name of no one."""
    labels = host.split(".")
    return (
        labels[-1] in _RESERVED_SUFFIXES
        or labels[-2] in EXAMPLE_HOSTS
        or any(host == name or host.endswith("." + name) for name in EXAMPLE_DOMAINS)
        or local in EXAMPLE_NAMES
        or local.startswith(("your.", "your_", "your-", "youre", "yourn"))
    )


def _names_no_mailbox(text: str, start: int, local: str, end: int) -> bool:
    """True for what has an address' form and is another thing.

    Args:
        text: the whole text.
        start: where the local part begins.
        local: the local part.
        end: where the domain ends.
    """
    before = text[max(0, start - 80) : start]
    return bool(
        _MESSAGE_NUMBER.match(local)
        or _IN_ADDRESS.search(before)
        or _REMOTE_PATH.match(text, end)
        or _REMOTE_LOGIN.search(before)
        or _MESSAGE_HEADER.search(before)
    )


@lru_cache(maxsize=4096)
def _is_registered(last_labels: str) -> bool:
    """True where the Public Suffix List has the last label, or, as of ``co.za``, the last two."""
    label = last_labels.rpartition(".")[2]
    if label in _UNIT_SUFFIXES:
        return False
    if label in _RESERVED_SUFFIXES or label in _RETIRED_SUFFIXES:
        return True
    return bool(is_tld(label) or is_tld(last_labels))
