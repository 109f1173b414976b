"""Heads of requests and answers on their way through a proxy: what is passed on, what is changed. Pure.

The backend never sees who asked: credentials and impersonation are for us. It is told where it is asked from
(`X-Forwarded-For`, `X-Forwarded-Uri`), and its redirects to itself lead back through the proxy. Bodies are left as they are: links
in HTML pages are not rewritten.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

Pairs = list[tuple[str, str]]
HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
        "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Headers of one connection (RFC 9110, 7.6.1), and those that `Connection` names."""
_OURS = frozenset({"authorization", "expect", "x-forwarded-uri", "x-forwarded-for"})
_CORS = "access-control-"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_BREAKS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_IMPERSONATION = "impersonate-"


class Way(NamedTuple):
    """A request's path, cut where the backend's begins."""

    prefix: str
    """Up to and including `/proxy`."""
    rest: str
    """The backend's path; empty where not even a slash follows."""
    query: str
    """With its question mark, or empty."""

    @property
    def target(self) -> str:
        """What the backend is asked for."""
        return (self.rest or "/") + self.query

    @property
    def whole(self) -> str:
        """The path as the client sent it."""
        return self.prefix + self.rest


def way_of(target: str, *, namespaced: bool) -> Way:
    """The way of a request target `/api/v1/[namespaces/NS/]KIND/NAME/proxy[/…][?…]`."""
    path, question, query = target.partition("?")
    steps = path.split("/")
    end = 8 if namespaced else 6
    prefix, rest = "/".join(steps[:end]), "/".join(["", *steps[end:]]) if steps[end:] else ""
    return Way(prefix, rest, question + query)


def is_upgrade(headers: Iterable[tuple[str, str]]) -> bool:
    """Whether the client wants to go on with another protocol."""
    return any(
        name.lower() == "connection" and "upgrade" in value.lower() for name, value in headers
    )


def _of_connection(headers: Iterable[tuple[str, str]]) -> set[str]:
    named = (v for k, v in headers if k.lower() == "connection")
    return {part.strip().lower() for value in named for part in value.split(",")}


def asked(headers: Pairs, way: Way, remote: str, *, upgrade: bool) -> Pairs:
    """The headers that the backend gets, but for those of its body."""
    dropped = HOP_BY_HOP | _of_connection(headers) | _OURS | {"content-length"}
    passed = [
        (name, value)
        for name, value in headers
        if name.lower() not in dropped and not name.lower().startswith(_IMPERSONATION)
    ]
    before = [v for k, v in headers if k.lower() == "x-forwarded-for"]
    if hops := [*before, remote] if remote else before:
        passed.append(("X-Forwarded-For", ", ".join(hops)))
    passed.append(("X-Forwarded-Uri", way.whole))
    if upgrade:
        passed.append(("Connection", "Upgrade"))
        passed += [pair for pair in headers if pair[0].lower() == "upgrade"]
    else:
        passed.append(("Connection", "close"))
    return passed


def answered(headers: Pairs, way: Way, host: str, asked_host: str) -> Pairs:
    """The headers that the client gets. `host` is the backend's, `asked_host` the one that the client named."""
    dropped = HOP_BY_HOP | _of_connection(headers)
    return [
        (name, redirected(value, way.prefix, (host, asked_host)) if low == "location" else value)
        for name, value in headers
        for low in (name.lower(),)
        if low not in dropped and not low.startswith(_CORS)
    ]


def is_sound(headers: Pairs) -> bool:
    """Whether they can be written as they are: names are tokens, no value breaks its line."""
    return all(_TOKEN.fullmatch(name) and not _BREAKS.search(value) for name, value in headers)


def redirected(location: str, prefix: str, hosts: tuple[str, str]) -> str:
    """A redirect of the backend's to itself, led through the proxy; any other as it is."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return location
    if (parts.netloc and parts.netloc not in hosts) or not parts.path.startswith("/"):
        return location
    path = parts.path if parts.path.startswith(prefix + "/") else prefix + parts.path
    return urlunsplit(("", "", path, parts.query, parts.fragment))
