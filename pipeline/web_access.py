"""Connections to web servers, without those addresses where a cloud gives away its credentials.

A name can be made to resolve to any address, and a server can redirect to any other one, so the
address itself is looked at, for every connection.
"""

from __future__ import annotations

import importlib
import ipaddress
import socket
from typing import Any

# Where clouds answer questions about the machine beside the link-local addresses.
_METADATA = frozenset(
    ipaddress.ip_address(address) for address in ("fd00:ec2::254", "100.100.100.200", "192.0.0.192")
)


class RefusedAddressError(PermissionError):
    """A connection to an address that no video is fetched from."""


async def guarded_client(loop: Any, **options: Any) -> Any:
    """An `aiohttp` session for fsspec that refuses link-local and metadata addresses."""
    aiohttp = importlib.import_module("aiohttp")  # only who reads from the web pays for it
    connector = aiohttp.TCPConnector(loop=loop, socket_factory=_socket)
    return aiohttp.ClientSession(loop=loop, connector=connector, **options)


def check_address(address: str) -> None:
    """Refuses addresses that only this machine or its cloud answers at.

    Raises:
        RefusedAddressError: It is link-local, multicast, unspecified, or a metadata service.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    for one in (ip, mapped):
        if one is None:
            continue
        if one.is_link_local or one.is_multicast or one.is_unspecified or one in _METADATA:
            raise RefusedAddressError(
                f"{address} is a link-local or metadata address, from which no video is read"
            )


def refused_address(error: BaseException | None) -> RefusedAddressError | None:
    """The refusal among the causes of a driver's error."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, RefusedAddressError):
            return error
        seen.add(id(error))
        error = getattr(error, "os_error", None) or error.__cause__ or error.__context__
    return None


def _socket(info: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol, _, address = info
    check_address(address[0])
    return socket.socket(family=family, type=kind, proto=protocol)
