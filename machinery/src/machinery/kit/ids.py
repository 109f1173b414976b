"""Random ids, handed in like time."""

import os
import random
import uuid
from typing import Protocol

SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""The letters of a generated name (k8s.io/apimachinery util/rand): no vowels, no look-alikes."""


class Ids(Protocol):
    """Where names and uids come from."""

    def uid(self) -> str:
        """A fresh UUID in text form."""
        ...

    def suffix(self, length: int = 5) -> str:
        """`length` random letters of SUFFIX_ALPHABET."""
        ...


_PAIRS = [first + second for first in SUFFIX_ALPHABET for second in SUFFIX_ALPHABET]
_FIVE_LETTERS = len(SUFFIX_ALPHABET) ** 5
_UIDS_AT_ONCE = 64


class SystemIds:
    """Ids of the operating system's randomness; suffixes, which are no secret, of a generator seeded by it."""

    def __init__(self) -> None:
        self._random = random.Random()
        self._digits: list[str] = []

    def uid(self) -> str:
        """uuid4 without the object, its digits fetched for many at once: several are made for each pod."""
        if not self._digits:
            fetched = os.urandom(16 * _UIDS_AT_ONCE).hex()
            self._digits = [fetched[i : i + 32] for i in range(0, len(fetched), 32)]
        digits = self._digits.pop()
        variant = "89ab"[int(digits[16], 16) & 3]
        return (
            f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
        )

    def suffix(self, length: int = 5) -> str:
        if length != 5:
            return "".join(self._random.choices(SUFFIX_ALPHABET, k=length))
        found = int(self._random.random() * _FIVE_LETTERS)
        found, pair = divmod(found, len(_PAIRS))
        letter, other = divmod(found, len(_PAIRS))
        return _PAIRS[pair] + _PAIRS[other] + SUFFIX_ALPHABET[letter]


class SeededIds:
    """Repeatable ids: the simulator and the tests."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def uid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def suffix(self, length: int = 5) -> str:
        return "".join(self._random.choices(SUFFIX_ALPHABET, k=length))
