"""Names of images taken apart and put together, by the grammar of the distribution project, as Karmada reads them.

A name without a registry keeps none (nothing is filled in with docker.io), and of a name with tag and digest the tag is kept.
"""

import re
from dataclasses import dataclass, replace
from typing import Final

from federation.propagation.overrides.errors import OverrideError

_DOMAIN_PART: Final = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN: Final = rf"{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*(?::[0-9]+)?"
_PART: Final = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST: Final = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE: Final = re.compile(
    rf"((?:{_DOMAIN}/)?{_PART}(?:/{_PART})*)(?::({_TAG}))?(?:@({_DIGEST}))?", re.ASCII
)
_WHOLE_DIGEST: Final = re.compile(_DIGEST, re.ASCII)
_NAME_MAX: Final = 255

REGISTRY, REPOSITORY, TAG = "Registry", "Repository", "Tag"


@dataclass(frozen=True, slots=True)
class Image:
    """`registry/repository:tag` or `registry/repository@digest`."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        name = f"{self.registry}/{self.repository}" if self.registry else self.repository
        if self.tag:
            return f"{name}:{self.tag}"
        return f"{name}@{self.digest}" if self.digest else name


def parse(text: str) -> Image:
    """The parts of an image's name. Raises OverrideError."""
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise OverrideError(f"failed to parse image value({text}), error: {_complaint(text)}")
    name, tag, digest = found.groups()
    if len(name) > _NAME_MAX:
        why = f"repository name must not be more than {_NAME_MAX} characters"
        raise OverrideError(f"failed to parse image value({text}), error: {why}")
    first, slash, rest = name.partition("/")
    has_registry = slash and ("." in first or ":" in first or first == "localhost")
    registry, repository = (first, rest) if has_registry else ("", name)
    return Image(registry, repository, tag or "", "" if tag else digest or "")


def _complaint(text: str) -> str:
    if not text:
        return "repository name must have at least one component"
    if _REFERENCE.fullmatch(text.lower()):
        return "repository name must be lowercase"
    return "invalid reference format"


def changed(image: Image, component: str, operator: str, value: str) -> Image:
    """The image with one component added to, replaced or removed. A tag is added to only where one is."""
    if component == TAG:
        return _with_tag(image, operator, value)
    held = image.registry if component == REGISTRY else image.repository
    new = {"add": held + value, "replace": value}.get(operator, "")
    if component == REGISTRY:
        return replace(image, registry=new)
    return replace(image, repository=new)


def _with_tag(image: Image, operator: str, value: str) -> Image:
    match operator:
        case "add":
            return replace(image, tag=image.tag + value) if image.tag else image
        case "replace" if _WHOLE_DIGEST.fullmatch(value):
            return replace(image, tag="", digest=value)
        case "replace":
            return replace(image, tag=value, digest="")
        case _:
            return replace(image, tag="", digest="")
