"""Which addresses may be connected to, in every spelling."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.providers.addresses import AddressRefused, check, guarded_socket

NEVER = [
    "169.254.0.1", "169.254.169.254", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16",
    "224.0.0.1", "ff02::1", str(IPv4Address(0)), "::", "255.255.255.255", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
]  # fmt: skip
PRIVATE = [
    "127.0.0.1", "127.8.8.8", "::1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fc00::1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1", "198.18.0.1", "192.0.2.1", "0.1.2.3",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "104.18.6.192", "2606:4700::6812:7c0", "::ffff:8.8.8.8"]


def allowed(address: str, private: bool) -> bool:
    try:
        check(address, private)
    except AddressRefused:
        return False
    return True


@pytest.mark.parametrize("address", NEVER)
def test_link_local_metadata_and_multicast_are_never_called(address: str) -> None:
    assert not allowed(address, private=False)
    assert not allowed(address, private=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_need_the_permission(address: str) -> None:
    assert not allowed(address, private=False)
    assert allowed(address, private=True)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_called(address: str) -> None:
    assert allowed(address, private=False)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_inside_an_ipv6_one_is_judged_as_itself(address: IPv4Address) -> None:
    mapped = str(IPv6Address(0xFFFF << 32 | int(address)))
    nat64 = str(IPv6Address(int(IPv6Address("64:ff9b::")) | int(address)))
    for private in (True, False):
        assert allowed(mapped, private) == allowed(nat64, private) == allowed(str(address), private)


@given(st.ip_addresses(v=6))
def test_without_the_permission_only_global_addresses_are_called(address: IPv6Address) -> None:
    if allowed(str(address), private=False):
        assert allowed(str(address), private=True)
        assert not (address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified)


def test_the_socket_factory_refuses_before_a_socket_exists() -> None:
    make = guarded_socket(allow_private=False)
    with pytest.raises(AddressRefused):
        make((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80)))
    made = make((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 80)))
    made.close()
