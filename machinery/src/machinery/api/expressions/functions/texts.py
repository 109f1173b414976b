"""Texts: patterns (`find`, `findAll`), named formats (`format.dns1123Label().validate(…)`), images, `jsonpatch.escapeKey`.

`validate` answers the complaints here and an optional in expressions: `compiling` wraps it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from machinery.api import formats
from machinery.api.expressions.functions.shape import (
    FORMAT,
    IMAGE,
    Function,
    Value,
    free,
    made,
    text_in,
)
from machinery.api.expressions.functions.urls import parts
from machinery.api.patterns import Search, known
from machinery.meta import names

_FOUND_MAX: Final = 10_000
"""How many places `findAll` finds at most."""


def _search(pattern: str) -> Search:
    search = known(pattern)
    if search is None:
        raise ValueError(f"Illegal regex: {pattern}")
    return search


def _find(text: str, pattern: str) -> str:
    found = _search(pattern)(text)
    return found[0] if found else ""


def _find_all(text: str, pattern: str, most: int = -1) -> list[str]:
    search, at = _search(pattern), 0
    limit = _FOUND_MAX if most < 0 else min(most, _FOUND_MAX)
    out: list[str] = []
    while len(out) < limit and (found := search(text[at:])):
        out.append(found[0])
        at += max(found.end(), found.start() + 1)
        if at > len(text):
            break
    return out


Check = Callable[[str], Sequence[str]]


def _prefix(check: Check) -> Check:
    """A name of which more is to come may end in a dash."""
    return lambda text: check(text[:-1] + "a" if text.endswith("-") and len(text) > 1 else text)


def _uri(text: str) -> Sequence[str]:
    try:
        parts(text)
    except ValueError as error:
        return [str(error)]
    return ()


def _shaped(name: str, complaint: str) -> Check:
    check = formats.FORMATS[name]
    return lambda text: () if check(text) else (complaint,)


FORMATS: Final[Mapping[str, Check]] = {
    "dns1123Label": names.dns_label,
    "dns1123Subdomain": names.dns_subdomain,
    "dns1035Label": names.dns_1035_label,
    "qualifiedName": names.qualified_name,
    "dns1123LabelPrefix": _prefix(names.dns_label),
    "dns1123SubdomainPrefix": _prefix(names.dns_subdomain),
    "dns1035LabelPrefix": _prefix(names.dns_1035_label),
    "labelValue": names.label_value,
    "uri": _uri,
    "uuid": _shaped("uuid", "does not match the UUID format"),
    "byte": _shaped("byte", "invalid base64"),
    "date": _shaped("date", "invalid date"),
    "datetime": _shaped("datetime", "invalid datetime"),
}


def _validate(form: Value, text: str) -> list[str]:
    return list(FORMATS[text_in(form)](text))


_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN: Final = r"(?:[a-zA-Z0-9.\-]+|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_IMAGE: Final = re.compile(
    rf"(?:(?P<registry>{_DOMAIN})/)?(?P<repository>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_\-.]{1,128}))?(?:@(?P<digest>[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)


def _image_parts(text: str) -> tuple[str, str, str, str]:
    """(registry, repository, tag, digest). Raises ValueError."""
    head, slash, _ = text.partition("/")
    explicit = slash and (any(letter in head for letter in ".:") or head == "localhost")
    found = _IMAGE.fullmatch(text if explicit else f"docker.invalid/{text}")
    if found is None or len(text) > 4096:  # noqa: PLR2004 - longer ones are no references
        raise ValueError(f"could not parse reference: {text}")
    registry = found["registry"] if explicit else "index.docker.io"
    registry = "index.docker.io" if registry == "docker.io" else registry
    repository = found["repository"]
    if registry == "index.docker.io" and "/" not in repository:
        repository = f"library/{repository}"
    digest = found["digest"] or ""
    return registry, repository, "" if digest else found["tag"] or "latest", digest


def _is_image(text: str) -> bool:
    try:
        _image_parts(text)
    except ValueError:
        return False
    return True


def _image(text: str) -> Value:
    _image_parts(text)
    return made(IMAGE, text)


def _named(name: str) -> Value:
    return made(FORMAT, name if name in FORMATS else "")


def _format(name: str) -> Callable[[], Value]:
    return lambda: made(FORMAT, name)


FUNCTIONS: Final = (
    Function("find", "string_find_string", ("string", "string"), "string", _find),
    Function("findAll", "string_find_all_string", ("string", "string"), "list<string>", _find_all),
    Function("findAll", "string_find_all_string_int", ("string", "string", "int"), "list<string>", _find_all),
    free("format.named", "format-named", ("string",), f"optional_type<{FORMAT}>", _named),
    *(free(f"format.{name}", f"format.{name}", (), FORMAT, _format(name)) for name in FORMATS),
    Function("validate", "format-validate", (FORMAT, "string"), "optional_type<list<string>>", _validate),
    free("image", "string_to_image", ("string",), IMAGE, _image),
    free("isImage", "is_image_string", ("string",), "bool", _is_image),
    Function("containsDigest", "image_contains_digest", (IMAGE,), "bool", lambda one: bool(_image_parts(text_in(one))[3])),
    Function("registry", "image_registry", (IMAGE,), "string", lambda one: _image_parts(text_in(one))[0]),
    Function("repository", "image_repository", (IMAGE,), "string", lambda one: _image_parts(text_in(one))[1]),
    Function("identifier", "image_identifier", (IMAGE,), "string", lambda one: "".join(_image_parts(text_in(one))[2:])),
    Function("tag", "image_tag", (IMAGE,), "string", lambda one: _image_parts(text_in(one))[2]),
    Function("digest", "image_digest", (IMAGE,), "string", lambda one: _image_parts(text_in(one))[3]),
    free("jsonpatch.escapeKey", "string_jsonpatch_escapeKey", ("string",), "string",
         lambda text: text.replace("~", "~0").replace("/", "~1")),
)  # fmt: skip
