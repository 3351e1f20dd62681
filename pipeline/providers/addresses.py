"""Which network addresses a provider may have (contract, part 2): decided on the address that is about to be connected to.

    link-local, metadata services, multicast, unspecified      never
    loopback, private, shared and other not global addresses   only where private providers are allowed
    everything else                                            yes

The check sits where the socket is made, after every name has been resolved and every spelling of an address (hexadecimal, decimal,
IPv4 inside IPv6) has become one, so a name that changes its answer between two look-ups gains nothing. A refusal is an
AddressRefused, an OSError like other reasons why a connection can't be made.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

_NEVER = tuple(
    ip_network(n)
    for n in (
        "0.0.0.0/32", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32",
        "::/128", "fe80::/10", "ff00::/8", "fd00:ec2::254/128", "fd20:ce::254/128",
    )
)  # fmt: skip
_NAT64 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
_COMPATIBLE = ip_network("::/96")

AddrInfo = tuple[int, int, int, str, Sequence[Any]]


class AddressRefused(OSError):
    """The address is one that is never called, or only where private providers are allowed."""


def check(address: str, allow_private: bool) -> None:
    """AddressRefused where `address` (in numbers, as a resolver gives it; a zone after `%` is allowed) may not be called."""
    ip = _innermost(ip_address(address.partition("%")[0]))
    # The text names no address: several refusals of one name then are one error, and callers learn nothing of the network.
    if any(ip in network for network in _NEVER if network.version == ip.version):
        raise AddressRefused("is not called: its address is link-local, a metadata service or multicast, for which there is no permission")
    if not ip.is_global and not allow_private:
        raise AddressRefused(
            "is not called: its address is private or loopback; if it is meant to be there, "
            "set SLUICE_ALLOW_PRIVATE_PROVIDERS=true on the workers"
        )


def _innermost(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address inside an IPv6 one (mapped, 6to4, NAT64, compatible), or the address itself."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip.ipv4_mapped or ip.sixtofour:
        return ip.ipv4_mapped or ip.sixtofour or ip
    if any(ip in network for network in _NAT64) or (ip in _COMPATIBLE and int(ip) > 1):
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


def guarded_socket(allow_private: bool) -> Callable[[AddrInfo], socket.socket]:
    """A socket factory for aiohttp's connector: it makes the socket for a resolved address, or raises AddressRefused."""

    def make(info: AddrInfo) -> socket.socket:
        family, kind, protocol, _, address = info
        check(str(address[0]), allow_private)
        return socket.socket(family, kind, protocol)

    return make
