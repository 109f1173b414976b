"""Which level of the Pod Security Standards holds in a namespace, by its labels."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from machinery.meta.resource import Document

PREFIX: Final = "pod-security.kubernetes.io/"
LEVELS: Final = ("privileged", "baseline", "restricted")
MODES: Final = ("enforce", "audit", "warn")
_VERSION: Final = re.compile(r"v1\.(0|[1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class Level:
    """A level and the version of its rules; shown as `baseline:latest`."""

    name: str = "privileged"
    version: str = "latest"

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


def level_of(labels: Mapping[str, str], mode: str) -> Level:
    """The level that the labels ask for; what cannot be read is `restricted`, so that a mistake opens nothing."""
    name = labels.get(PREFIX + mode, LEVELS[0])
    version = labels.get(f"{PREFIX}{mode}-version", "latest")
    if name not in LEVELS:
        name = LEVELS[2]
    return Level(name, version if _is_version(version) else "latest")


def speaks(labels: Mapping[str, str] | None) -> bool:
    """Whether the labels say anything of pod security."""
    return labels is not None and any(key.startswith(PREFIX) for key in labels)


def _is_version(text: str) -> bool:
    return text == "latest" or _VERSION.fullmatch(text) is not None


def faults(labels: Mapping[str, str]) -> list[Document]:
    """Causes against labels that cannot be read."""
    found: list[Document] = []
    for mode in MODES:
        key = PREFIX + mode
        if key in labels and labels[key] not in LEVELS:
            found.append(_invalid(key, labels[key], f"must be one of {', '.join(LEVELS)}"))
        key += "-version"
        if key in labels and not _is_version(labels[key]):
            found.append(_invalid(key, labels[key], 'must be "latest" or "v1.x"'))
    return found


def _invalid(key: str, value: str, why: str) -> Document:
    return {
        "reason": "FieldValueInvalid",
        "message": f'Invalid value: "{value}": {why}',
        "field": f"metadata.labels[{key}]",
    }


def is_stricter(new: Level, old: Level) -> bool:
    """Whether pods that were fine may not be any more."""
    if new == old or new.name == LEVELS[0]:
        return False
    return LEVELS.index(new.name) > LEVELS.index(old.name) or new.version != old.version
