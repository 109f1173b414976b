"""Clients for a namespace's thread: plain sockets, one connection each."""

import socket
from collections import Counter
from collections.abc import Callable


def ask(address: str, port: int, timeout_s: float = 5.0) -> Callable[[], tuple[str, str]]:
    """(who answered, whom it saw)."""

    def work() -> tuple[str, str]:
        with socket.create_connection((address, port), timeout=timeout_s) as link:
            name, _, peer = link.makefile().readline().strip().partition(" ")
            return name, peer

    return work


def ask_often(address: str, port: int, times: int) -> Callable[[], Counter[str]]:
    """How often each answered."""

    def work() -> Counter[str]:
        return Counter(ask(address, port)()[0] for _ in range(times))

    return work


def refused(address: str, port: int) -> Callable[[], str]:
    """The class of error that a connection meets."""

    def work() -> str:
        try:
            with socket.create_connection((address, port), timeout=3.0):
                return "connected"
        except OSError as error:
            return type(error).__name__

    return work


class Udp:
    """A client that keeps its port."""

    def __init__(self, address: str, port: int) -> None:
        self.to = (address, port)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(1.0)
        self.socket.connect(self.to)

    def ask(self) -> str:
        """Who answers; empty if nobody does."""
        try:
            self.socket.send(b"x")
            return self.socket.recv(100).decode().split()[0]
        except OSError:
            return ""

    def close(self) -> None:
        self.socket.close()
