"""The address of a Prefect server that the user names: whether its API answers there."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from components.core.errors import ConfigError

_HEALTH_SECONDS = 5.0


def check_prefect_api(address: str) -> None:
    """Refuse an address at which no API answers, where one does beside it.

    Prefect's server answers every other path with the page of its UI. What does not answer at all,
    or wants a key first, is left to Prefect to tell.

    Raises:
        ConfigError: names the address of the API.
    """
    beside = urlunsplit(urlsplit(address)._replace(path="/api", query="", fragment=""))
    if address.rstrip("/") != beside and not _is_api(address) and _is_api(beside):
        raise ConfigError(
            f"PREFECT_API_URL={address}: no API of Prefect answers there, and one does at "
            f"{beside}: export PREFECT_API_URL={beside}"
        )


def _is_api(address: str) -> bool:
    """Whether a Prefect server says there that it is well."""
    import httpx

    try:
        answer = httpx.get(f"{address.rstrip('/')}/health", timeout=_HEALTH_SECONDS)
        return answer.is_success and answer.json() is True
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return False
