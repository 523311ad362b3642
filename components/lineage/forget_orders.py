"""Orders to forget a page or a domain: ``<home>/blocklist.jsonl``, one JSON object a line.

Every run of the workspace takes them as an input of ``scrape`` and ``select``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from components.collect.web.urls import normalise_url
from components.core.errors import ConfigError, DataError
from components.core.io.atomic_write import write_atomically
from components.core.io.locks import hold_lock
from components.core.settings import Settings
from components.core.store.artifact import canonical_json
from components.core.workspace_layout import mark_layout

_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})+")


@dataclass(frozen=True)
class ForgetOrder:
    """Order to forget a page, with all below its address, or a domain, with its subdomains."""

    target: str
    time: str
    """UTC, ISO 8601."""
    why: str


def normalise_target(target: str) -> str:
    """Normalise a URL or domain to the spelling that orders use.

    Raises:
        ConfigError: it is neither.
    """
    text = target.strip()
    if not text:
        raise ConfigError("say which page (https://site.example/page) or domain (site.example)")
    if text.startswith("file:///") and len(text) > len("file:///"):
        return text.rstrip("/")
    if "://" in text:
        url = normalise_url(text)
        if url is None:
            raise ConfigError(f"{target}: not an http(s) or file address")
        return url
    host, _, path = text.partition("/")
    try:
        domain = host.lower().strip(".").encode("idna").decode()
    except UnicodeError as error:
        raise ConfigError(f"{target}: not a domain: {error}") from error
    if not _DOMAIN.fullmatch(domain):
        raise ConfigError(
            f"{target}: neither an address (https://site.example/page, file:///notes/a.md) nor a "
            "domain (site.example)"
        )
    if path:
        raise ConfigError(
            f"{target}: an address needs its scheme: https://{domain}/{path} or http://…"
        )
    return domain


def orders_path(settings: Settings) -> Path:
    """File of the orders."""
    return settings.home / "blocklist.jsonl"


def read_orders(settings: Settings) -> list[ForgetOrder]:
    """Read all orders, oldest first.

    Raises:
        DataError: a line is no order; names it.
    """
    path = orders_path(settings)
    if not path.exists():
        return []
    orders = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            orders.append(ForgetOrder(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}:{number}: not an order to forget: {error}") from error
    return orders


def record_order(settings: Settings, target: str, why: str) -> tuple[ForgetOrder, bool]:
    """Record an order, unless there is one for the target already.

    Args:
        settings: workspace that keeps the orders.
        target: normalised.
        why: the user's reason.

    Returns:
        The order for ``target``, and True if it is new.
    """
    mark_layout(settings.home)
    with hold_lock(settings.home / "blocklist.lock"):
        orders = read_orders(settings)
        for order in orders:
            if order.target == target:
                return order, False
        order = ForgetOrder(target, datetime.now(UTC).isoformat(timespec="seconds"), why)
        lines = [canonical_json(asdict(known)) for known in [*orders, order]]
        write_atomically(orders_path(settings), b"\n".join(lines) + b"\n")
    return order, True


def split_targets(targets: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split targets into (addresses, domains), as ``select`` takes them."""
    addresses = [target for target in targets if "://" in target]
    return addresses, [target for target in targets if "://" not in target]
