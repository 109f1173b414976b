"""The door to nftables: libnftables by ctypes, and a twin in memory that takes the same commands.

Ours and not `pip-nftables`: that package is a GPL file which installs itself beside all packages of the environment,
and sixty lines do. The library is Debian's (package nftables); its socket belongs to the network namespace of the
thread that first used it, so one Nft keeps to one thread. A transaction is applied whole or not at all.
"""

import ctypes
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from cluster_agent.node.proxy.layout import TABLE, Transaction
from cluster_agent.node.proxy.netlink import read_clients, read_form

LIBRARY = "libnftables.so.1"
MESSAGE_LETTERS_MAX = 600
DESCRIPTORS_MAX = 1024
"""FD_SETSIZE of glibc."""

Row = tuple[tuple[str, ...], tuple[str, ...]]
"""Key and value of an element, field by field."""


@dataclass(frozen=True, slots=True)
class Form:
    """The objects of a table, and a digest that changes with its chains and rules; both empty without a table."""

    objects: tuple[tuple[str, str], ...] = ()
    """("map" | "set" | "chain", name)."""
    digest: str = ""


class NftError(Exception):
    """A transaction was refused; the message holds the kernel's words. Nothing of it was applied."""


class Nft(Protocol):
    """Our table, and no other."""

    def apply(self, transaction: Transaction) -> None:
        """All commands or none. Raises NftError."""
        ...

    def form(self, family: str) -> Form:
        """What our table consists of, elements aside. Raises NftError."""
        ...

    def clients(self) -> list[Row]:
        """Elements of the map of remembered clients (IPv4 only). Raises NftError."""
        ...


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise NftError(f"{LIBRARY} cannot be loaded: install the package nftables") from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    for name in ("get_error_buffer", "buffer_output", "buffer_error", "free"):
        getattr(library, f"nft_ctx_{name}").argtypes = [ctypes.c_void_p]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library


def _new_context(library: ctypes.CDLL) -> int:
    """A context with its socket. Raises NftError where libnftables would end the process.

    It waits for the kernel with select(), and glibc aborts a process that selects a descriptor above 1023. A context
    made early in a process has a low one for good.
    """
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    if lowest >= DESCRIPTORS_MAX:
        raise NftError(
            f"{lowest} descriptors are open and libnftables can use none above {DESCRIPTORS_MAX - 1}: "
            "restart the process, and look for what keeps files open"
        )
    context: int = library.nft_ctx_new(0)
    library.nft_ctx_buffer_output(context)
    library.nft_ctx_buffer_error(context)
    return context


class KernelNft:
    """The kernel of this machine, and one table of ours in it."""

    def __init__(self, table: str = TABLE) -> None:
        self._table = table
        self._context: int | None = None

    def apply(self, transaction: Transaction) -> None:
        library = _library()
        if self._context is None:
            self._context = _new_context(library)
        text = "\n".join(transaction) + "\n"
        failed = library.nft_run_cmd_from_buffer(self._context, text.encode())
        words: bytes = library.nft_ctx_get_error_buffer(self._context)
        if failed:
            self.close()  # whatever the library remembers of the table may be what misled it
            raise NftError(_short(words.decode(errors="replace")))

    def form(self, family: str) -> Form:
        try:
            objects, digest = read_form(family, self._table)
        except OSError as error:
            raise NftError(str(error)) from error
        return Form(tuple(objects), digest)

    def clients(self) -> list[Row]:
        try:
            return read_clients(self._table, "affinity")
        except OSError as error:
            raise NftError(str(error)) from error

    def close(self) -> None:
        """Let the socket go; the next use opens another."""
        if self._context is not None:
            _library().nft_ctx_free(self._context)
            self._context = None


def _short(words: str) -> str:
    """The kernel's words: the line that tells, not the four thousand elements it points at."""
    lines = [line for line in words.splitlines() if line.strip(" ~^")]
    told = [line[:MESSAGE_LETTERS_MAX] for line in lines]
    return "; ".join(told)[:MESSAGE_LETTERS_MAX] or "nft failed without a word"
