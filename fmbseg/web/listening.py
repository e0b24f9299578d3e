"""The socket that a server of ours listens on."""

import errno
import ipaddress
import socket
from collections.abc import Sequence

from fmbseg.store import StoreError


def listening(host: str, ports: Sequence[int]) -> socket.socket:
    """Listen on the first port that is free.

    Args:
        host: address of an interface of this machine, such as 127.0.0.1 or ::1.
        ports: in the order in which they are tried; 0 for any that is free.

    Raises:
        StoreError: none of them can be had; names the first.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    problems: list[OSError] = []
    for port in ports:
        try:
            return socket.create_server((host, port), family=family, backlog=128)
        except OSError as error:
            problems.append(error)
    if problems[0].errno == errno.EADDRINUSE:
        raise StoreError(f"--port: {ports[0]} is taken; name another one, or none")
    raise StoreError(f"{host} port {ports[0]}: {problems[0].strerror}; name another one")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
