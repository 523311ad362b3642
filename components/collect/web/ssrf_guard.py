"""Keeps a crawler off private networks: checks the address that is then connected to.

A name is looked up once, its addresses are checked, and the connection is made to a checked
address, so that a name that answers differently the second time gains nothing. As every request
goes through here, redirects are checked too.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from typing import Any

import httpcore

Address = tuple[str, int]
_INSIDE = (
    ipaddress.ip_network("192.0.0.0/24"),  # protocol assignments; a cloud's metadata is at .192
    ipaddress.ip_network(
        "168.63.129.16/32"
    ),  # a cloud's machine agent, on a public-looking address
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_ISATAP = 0x00005EFE
"""Of an interface's 64 bits the first half, where the second is an IPv4 address (RFC 5214)."""
_6TO4 = ipaddress.ip_network("2002::/16")

PRIVATE = "leads to the private address"
"""What the reason of a refusal says."""


class AddressRefused(Exception):
    """The host leads to an address that this crawl may not touch."""


def is_public(address: str) -> bool:
    """Whether an IP address is one on the open internet (and no cloud's metadata service)."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or _embedded(ip)
        if inner is not None:
            return is_public(str(inner))
        low = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if int(ip) >> 32 & 0xFDFFFFFF == _ISATAP and not is_public(str(low)):
            return False
        if ip.is_site_local:  # fec0::/10, given up by RFC 3879 and still routed inside
            return False
    elif any(ip in network for network in _INSIDE):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def is_private_literal(host: str) -> bool:
    """Whether a host is written as an IP address and that is no public one; a name is not."""
    try:
        return not is_public(host)
    except ValueError:
        return False


def _embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a translated or tunnelled IPv6 address stands for."""
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip in _6TO4:
        return ipaddress.IPv4Address((int(ip) >> 80) & 0xFFFFFFFF)
    return ip.teredo[1] if ip.teredo is not None else None


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Opens connections for httpcore, to checked addresses alone.

    ``known`` maps (host, port) to an address that the source itself vouches for, such as the
    embedded site's.
    """

    def __init__(self, known: Mapping[Address, Address], *, allow_private: bool) -> None:
        self._known = known
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
        """Raises AddressRefused, or httpcore's errors."""
        error: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in await self._addresses(host, port, timeout):
            try:
                return await self._network.connect_tcp(
                    *address, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
        raise error

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        """A crawl has no use for one."""
        raise AddressRefused("a socket on this machine")

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)

    async def _addresses(self, host: str, port: int, timeout: float | None) -> list[Address]:
        known = self._known.get((host, port))
        if known is not None:
            return [known]
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:  # TimeoutError is one
            raise httpcore.ConnectError(f"{host} cannot be looked up") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not self._allow_private:
            refused = [address for address in addresses if not is_public(address)]
            if refused:
                raise AddressRefused(f"{host} {PRIVATE} {refused[0]}")
        return [(address, port) for address in addresses]
