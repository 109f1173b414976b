"""The door to nftables: libnftables by ctypes, and a twin in memory that takes the same commands.

Ours and not `pip-nftables`: that package is a GPL file which installs itself beside all packages of the environment,
and sixty lines do. The library is Debian's (package nftables); its socket belongs to the network namespace of the
thread that first used it, so one Nft keeps to one thread. A transaction is applied whole or not at all.
"""

import ctypes
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from cluster_agent.node.proxy.layout import TABLE, Transaction

JSON = 1 << 4
TERSE = 1 << 11
LIBRARY = "libnftables.so.1"
MESSAGE_LETTERS_MAX = 600

Row = tuple[tuple[str, ...], tuple[str, ...]]
"""Key and value of an element, field by field."""


class NftError(Exception):
    """A transaction was refused; the message holds the kernel's words. Nothing of it was applied."""


class Nft(Protocol):
    """Our table, and no other."""

    def apply(self, transaction: Transaction) -> None:
        """All commands or none. Raises NftError."""
        ...

    def describe(self, family: str) -> str:
        """Our table as text, without elements; empty if there is none."""
        ...

    def elements(self, family: str, name: str) -> list[Row]:
        """The elements of one map."""
        ...


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise NftError(f"{LIBRARY} cannot be loaded: install the package nftables") from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).restype = ctypes.c_char_p
    for name in ("get_output_buffer", "get_error_buffer", "buffer_output", "buffer_error", "free"):
        getattr(library, f"nft_ctx_{name}").argtypes = [ctypes.c_void_p]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library


class KernelNft:
    """The kernel of this machine."""

    def __init__(self) -> None:
        self._context: int | None = None

    def _run(self, text: str, flags: int = 0) -> str:
        library = _library()
        if self._context is None:
            self._context = library.nft_ctx_new(0)
            library.nft_ctx_buffer_output(self._context)
            library.nft_ctx_buffer_error(self._context)
        library.nft_ctx_output_set_flags(self._context, flags)
        failed = library.nft_run_cmd_from_buffer(self._context, text.encode())
        output: bytes = library.nft_ctx_get_output_buffer(self._context)
        words: bytes = library.nft_ctx_get_error_buffer(self._context)
        if failed:
            self.close()  # whatever the library remembers of the table may be what misled it
            raise NftError(_short(words.decode(errors="replace")))
        return output.decode()

    def apply(self, transaction: Transaction) -> None:
        _ = self._run("\n".join(transaction) + "\n")

    def describe(self, family: str) -> str:
        try:
            return self._run(f"list table {family} {TABLE}", TERSE)
        except NftError as error:
            if "No such file or directory" in str(error):
                return ""
            raise

    def elements(self, family: str, name: str) -> list[Row]:
        listing = json.loads(self._run(f"list map {family} {TABLE} {name}", JSON))
        found = next(item["map"] for item in listing["nftables"] if "map" in item)
        return [(_fields(key), _fields(value)) for key, value in found.get("elem", ())]

    def close(self) -> None:
        """Let the socket go; the next use opens another."""
        if self._context is not None:
            _library().nft_ctx_free(self._context)
            self._context = None


def _fields(part: object) -> tuple[str, ...]:
    if isinstance(part, dict) and "elem" in part:
        return _fields(part["elem"]["val"])
    if isinstance(part, dict) and "concat" in part:
        values: Sequence[object] = part["concat"]
        return tuple(map(str, values))
    return (str(part),)


def _short(words: str) -> str:
    """The kernel's words: the line that tells, not the four thousand elements it points at."""
    lines = [line for line in words.splitlines() if line.strip(" ~^")]
    told = [line[:MESSAGE_LETTERS_MAX] for line in lines]
    return "; ".join(told)[:MESSAGE_LETTERS_MAX] or "nft failed without a word"
