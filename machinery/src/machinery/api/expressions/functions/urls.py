"""Addresses of the web: `url`, `isURL` and the parts of one, as Go's net/url takes them apart.

An absolute URI or an absolute path is one; `../path` is none.
"""

import re
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote

from machinery.api.expressions.functions.shape import URL, Function, Value, free, made, text_in

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST: Final = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:\[\]<>\"%\x80-\U0010ffff]*")
_PORT: Final = re.compile(r"[0-9]*", re.ASCII)
_PATH_SAFE: Final = "/!$&'()*+,;=:@-._~%"


class Parts(NamedTuple):
    """What a URL is made of."""

    scheme: str = ""
    host: str = ""
    path: str = ""
    query: str = ""


def parts(text: str) -> Parts:
    """Taken apart, without the fragment. Raises ValueError with Go's sentence."""
    try:
        return _parts(text)
    except ValueError as error:
        raise ValueError(f'parse "{text}": {error}') from None


def _parts(text: str) -> Parts:
    if _CONTROL.search(text):
        raise ValueError("net/url: invalid control character in URL")
    if not text:
        raise ValueError("empty url")
    found = _SCHEME.match(text)
    scheme, rest = (found[1].lower(), text[found.end() :]) if found else ("", text)
    if text.startswith(":"):
        raise ValueError("missing protocol scheme")
    rest = rest.partition("#")[0]
    rest, _, query = rest.partition("?")
    if not rest.startswith("/"):
        if scheme:
            return Parts(scheme, "", "", query)  # opaque, as mailto:
        raise ValueError("invalid URI for request")
    host = ""
    if rest.startswith("//") and (scheme or not rest.startswith("///")):
        authority, slash, path = rest[2:].partition("/")
        host, rest = _host(authority), slash + path
    if bad := _ESCAPE.search(rest):
        raise ValueError(f'invalid URL escape "{rest[bad.start() : bad.start() + 3]}"')
    return Parts(scheme, host, rest, query)


def _host(authority: str) -> str:
    host = authority.rpartition("@")[2]
    if host.startswith("["):
        inner, bracket, port = host.rpartition("]")
        if not bracket:
            raise ValueError("missing ']' in host")
        rest = port
        del inner
    else:
        _, colon, port = host.partition(":")
        rest = colon + port
    if rest and not (rest[0] == ":" and _PORT.fullmatch(rest[1:])):
        raise ValueError(f'invalid port "{rest}" after host')
    if not _HOST.fullmatch(host):
        bad = next(letter for letter in host if not _HOST.fullmatch(letter))
        raise ValueError(f'invalid character "{bad}" in host name')
    return host


def _hostname(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _port(host: str) -> str:
    return host.rpartition("]")[2].partition(":")[2]


def _url(text: str) -> Value:
    try:
        parts(text)
    except ValueError as error:
        raise ValueError(f"URL parse error during conversion from string: {error}") from None
    return made(URL, text)


def _is_url(text: str) -> bool:
    try:
        parts(text)
    except ValueError:
        return False
    return True


def _query(text: str) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for key, value in parse_qsl(parts(text).query, keep_blank_values=True):
        out.setdefault(key, []).append(value)
    return out


FUNCTIONS: Final = (
    free("url", "string_to_url", ("string",), URL, _url),
    free("isURL", "is_url_string", ("string",), "bool", _is_url),
    Function("getScheme", "url_get_scheme", (URL,), "string", lambda url: parts(text_in(url)).scheme),
    Function("getHost", "url_get_host", (URL,), "string", lambda url: parts(text_in(url)).host),
    Function("getHostname", "url_get_hostname", (URL,), "string", lambda url: _hostname(parts(text_in(url)).host)),
    Function("getPort", "url_get_port", (URL,), "string", lambda url: _port(parts(text_in(url)).host)),
    Function("getEscapedPath", "url_get_escaped_path", (URL,), "string", lambda url: quote(parts(text_in(url)).path, safe=_PATH_SAFE)),
    Function("getQuery", "url_get_query", (URL,), "map<string,list<string>>", lambda url: _query(text_in(url))),
)  # fmt: skip
