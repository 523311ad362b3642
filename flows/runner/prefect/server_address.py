"""Address of the Prefect server that a run uses: the user's, or that of ``modelmill up``."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from components.core.environment import export_variables
from components.core.errors import ConfigError
from components.core.settings import Settings
from flows.operations.up.platform_state import prefect_api

_HEALTH_SECONDS = 5.0


def check_prefect_api(address: str) -> None:
    """Refuse an address at which no API answers, if one answers under ``/api`` beside it.

    Prefect's server answers every other path with the page of its UI. A server that does not answer
    at all, or requires a key, is left to Prefect's own errors.

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
    """True if a Prefect server reports there that it is healthy."""
    import httpx

    try:
        answer = httpx.get(f"{address.rstrip('/')}/health", timeout=_HEALTH_SECONDS)
        return answer.is_success and answer.json() is True
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return False


def use_running_server(settings: Settings) -> None:
    """Send this process's flow runs to the server of ``modelmill up``, where one answers.

    To be called before Prefect is imported: it reads its environment then.

    Raises:
        ConfigError: the user named a server without the path of its API.
    """
    address = settings.prefect_api_url or prefect_api(settings)
    if settings.prefect_api_url is not None:
        check_prefect_api(settings.prefect_api_url)
    if address is not None:
        export_variables({"PREFECT_API_URL": address})
