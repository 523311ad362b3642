"""SSRF guard: keeps a crawler off private networks by checking the address it connects to.

A host name is looked up here alone, its addresses are checked, and a transfer is pinned to one of
them, so that DNS rebinding (another answer the second time) gains nothing. Every socket is opened
by ``open_checked_socket``, which sees the very address that is connected to, after redirects,
unusual spellings of an address and whatever else the client made of a URL.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping
from time import monotonic

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

LOOKUP_SECONDS = 60.0
"""Time for which a checked answer is taken again: as long as other clients keep one."""
MAX_LOOKUPS = 1 << 16
"""Hosts whose answers are kept."""
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


class HostLookupError(OSError):
    """Host whose name cannot be looked up."""


class AddressGuard:
    """Lookup of hosts that gives checked addresses alone.

    ``trusted`` maps (host, port) to an address that needs no check, such as the embedded site's.
    """

    def __init__(self, trusted: Mapping[HostPort, HostPort], *, allow_private: bool) -> None:
        self._trusted = trusted
        self._allow_private = allow_private
        self._lookups: dict[HostPort, tuple[float, list[HostPort]]] = {}

    async def resolve_host(self, host: str, port: int, seconds: float) -> list[HostPort]:
        """Look up a host; its addresses, all of which may be connected to.

        Args:
            host: Name or IP address.
            port: TCP port.
            seconds: Time for the lookup.

        Raises:
            AddressRefused: it has an address that is not public.
            HostLookupError: it cannot be looked up.
        """
        trusted = self._trusted.get((host, port))
        if trusted is not None:
            return [trusted]
        until, addresses = self._lookups.get((host, port), (0.0, []))
        if monotonic() >= until:
            addresses = await _look_up(host, port, seconds)
            self._check_addresses(host, addresses)
            if len(self._lookups) >= MAX_LOOKUPS:
                self._lookups.clear()
            self._lookups[host, port] = monotonic() + LOOKUP_SECONDS, addresses
        return addresses

    def _check_addresses(self, host: str, addresses: list[HostPort]) -> None:
        if self._allow_private:
            return
        for address, _ in addresses:
            if not is_public(address):
                raise AddressRefused(f"{host} {PRIVATE_ADDRESS} {address}")


async def _look_up(host: str, port: int, seconds: float) -> list[HostPort]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
        raise HostLookupError(f"{host} cannot be looked up") from error
    addresses = list(dict.fromkeys((str(info[4][0]), port) for info in infos))
    if not addresses:
        raise HostLookupError(f"{host} has no address")
    return addresses


def open_checked_socket(
    family: int, kind: int, protocol: int, address: HostPort, pinned: HostPort
) -> socket.socket:
    """Open the socket of a connection that is about to be made.

    Args:
        family: Address family.
        kind: Socket type.
        protocol: Protocol number.
        address: The address that the client is about to connect to.
        pinned: The one that was checked for it.

    Raises:
        AddressRefused: they are not the same.
    """
    if not _is_same_address(address, pinned):
        raise AddressRefused(f"a connection to {address[0]}, which was not looked up for it")
    return socket.socket(family, kind, protocol)


def _is_same_address(one: HostPort, other: HostPort) -> bool:
    try:
        hosts = [ipaddress.ip_address(host.partition("%")[0]) for host, _ in (one, other)]
    except ValueError:
        return False
    return hosts[0] == hosts[1] and one[1] == other[1]
