"""SSRF guard: keeps a crawler off private networks by checking the address it connects to.

A host name is resolved once, its addresses are checked, and the connection is made to a checked
address, so that DNS rebinding (another answer the second time) gains nothing. As every connection
is opened here, redirects are checked too.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from typing import Any

import httpcore

HostPort = tuple[str, int]
_INTERNAL_NETWORKS = (
    ipaddress.ip_network("192.0.0.0/24"),  # protocol assignments; a cloud's metadata is at .192
    ipaddress.ip_network(
        "168.63.129.16/32"
    ),  # a cloud's machine agent, on a public-looking address
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_ISATAP = 0x00005EFE
"""First half of an interface identifier whose second half is an IPv4 address (RFC 5214)."""
_6TO4 = ipaddress.ip_network("2002::/16")

PRIVATE_ADDRESS = "leads to the private address"
"""Phrase in the reason of a refusal, by which the hint to ``allow_private`` is given."""


class AddressRefused(Exception):
    """Refusal of a host that resolves to an address which this crawl may not reach."""


def is_public(address: str) -> bool:
    """True for an IP address of the public internet (and no cloud's metadata service)."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or _embedded_ipv4(ip)
        if inner is not None:
            return is_public(str(inner))
        low = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if int(ip) >> 32 & 0xFDFFFFFF == _ISATAP and not is_public(str(low)):
            return False
        if ip.is_site_local:  # fec0::/10, deprecated by RFC 3879 and still routed internally
            return False
    elif any(ip in network for network in _INTERNAL_NETWORKS):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def is_private_literal(host: str) -> bool:
    """True for a host that is written as an IP address which is not public."""
    try:
        return not is_public(host)
    except ValueError:
        return False


def _embedded_ipv4(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """IPv4 address that a translated or tunnelled IPv6 address stands for."""
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip in _6TO4:
        return ipaddress.IPv4Address((int(ip) >> 80) & 0xFFFFFFFF)
    return ip.teredo[1] if ip.teredo is not None else None


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """httpcore network backend that connects to checked addresses alone.

    ``trusted`` maps (host, port) to an address that needs no check, such as the embedded site's.
    """

    def __init__(self, trusted: Mapping[HostPort, HostPort], *, allow_private: bool) -> None:
        self._trusted = trusted
        self._allow_private = allow_private
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check and connect; arguments as httpcore passes them.

        Args:
            host: Name or IP address.
            port: TCP port.
            timeout: Seconds for the lookup, and for each connection.
            local_address: Address to connect from.
            socket_options: Options of the socket.

        Raises:
            AddressRefused: the host has an address that is not public.
            httpcore.ConnectError: it cannot be looked up or connected to.
        """
        error: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in await self._addresses(host, port, timeout):
            try:
                return await self._network.connect_tcp(
                    *address, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failure:
                error = failure
        raise error

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        """Refuse: a crawl has no use for a Unix socket."""
        raise AddressRefused("a socket on this machine")

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)

    async def _addresses(self, host: str, port: int, timeout: float | None) -> list[HostPort]:
        trusted = self._trusted.get((host, port))
        if trusted is not None:
            return [trusted]
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:  # TimeoutError is one
            raise httpcore.ConnectError(f"{host} cannot be looked up") from error
        addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
        if not self._allow_private:
            refused = [address for address in addresses if not is_public(address)]
            if refused:
                raise AddressRefused(f"{host} {PRIVATE_ADDRESS} {refused[0]}")
        return [(address, port) for address in addresses]
