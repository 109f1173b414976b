"""Specs that were found without fault: hundreds of pods of one workload differ in nothing but the name of a volume.

The checks of a spec are a pure function of it, so a spec that passed once passes again. The token volume's name, which
admission makes up for each pod, is taken out of the comparison: checks see its shape, which is always the same. Only one
such name is taken out; a second one in the same spec stays and is compared.
"""

import re
from typing import Final

import orjson

from machinery.meta.resource import Document

KEPT_MAX: Final = 512
BYTES_MAX: Final = 16 * 1024
_TOKEN_VOLUME: Final = re.compile(rb'"kube-api-access-[a-z0-9]{5}"')
_ANY_VOLUME: Final = b'"kube-api-access-?"'
_proven: dict[bytes, None] = {}


def key_of(spec: Document) -> bytes:
    """What stands for a spec and all that differ from it in the token volume's name."""
    text = orjson.dumps(spec)
    found = _TOKEN_VOLUME.search(text)
    return text if found is None else text.replace(found[0], _ANY_VOLUME)


def known(key: bytes) -> bool:
    """Whether such a spec has passed before."""
    return key in _proven


def keep(key: bytes) -> None:
    """Such a spec has passed."""
    if len(key) > BYTES_MAX:
        return
    if len(_proven) >= KEPT_MAX:
        del _proven[next(iter(_proven))]
    _proven[key] = None
