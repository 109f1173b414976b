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


class SystemIds:
    """Ids of the operating system's randomness; suffixes, which are no secret, of a generator seeded by it."""

    def __init__(self) -> None:
        self._random = random.Random()

    def uid(self) -> str:
        digits = os.urandom(16).hex()  # uuid4 without the object: several are made for each pod
        variant = "89ab"[int(digits[16], 16) & 3]
        return (
            f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
        )

    def suffix(self, length: int = 5) -> str:
        return "".join(self._random.choices(SUFFIX_ALPHABET, k=length))


class SeededIds:
    """Repeatable ids: the simulator and the tests."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def uid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def suffix(self, length: int = 5) -> str:
        return "".join(self._random.choices(SUFFIX_ALPHABET, k=length))
