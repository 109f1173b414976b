"""One request of the load generator as a value, and what is read from the wire: an HTTP answer, a DNS answer, an address.

Written by hand on purpose: what measures our services shares no client library with them.

Limits: plain HTTP/1.1 over IPv4 with `Connection: close`; A records only.
"""

import ipaddress
import struct
from dataclasses import dataclass

import msgspec

_STATUS_PARTS = 2
_TYPE_A, _CLASS_IN = 1, 1


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request: when it began (seconds since 1970), from which zone, how it ended, who answered."""

    t: float
    source: str
    ms: float
    ok: bool = False
    error: str = ""
    pod: str = ""
    node: str = ""
    cluster: str = ""
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go."""

    host: str
    port: int
    path: str

    @property
    def is_address(self) -> bool:
        """Whether no name server is needed."""
        try:
            ipaddress.IPv4Address(self.host)
        except ValueError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Answer:
    """What an HTTP answer says: an error, or the four words of whoami."""

    error: str = ""
    words: tuple[str, str, str, str] = ("", "", "", "")


def parse_target(text: str) -> Target:
    """`ADDRESS[:PORT][/path]`. Raises ValueError."""
    place, slash, path = text.removeprefix("http://").partition("/")
    host, _, port = place.partition(":")
    if not host or (port and not (port.isdigit() and 0 < int(port) < 65536)):
        raise ValueError(f"{text!r} is no ADDRESS[:PORT][/path]")
    return Target(host, int(port or 80), slash + path or "/")


def http_request(target: Target) -> bytes:
    """A GET that wants the connection closed behind it."""
    lines = (f"GET {target.path} HTTP/1.1", f"Host: {target.host}", "Connection: close")
    return "\r\n".join((*lines, "User-Agent: ubernetes-lab-load", "", "")).encode()


def parse_answer(raw: bytes) -> Answer:
    """A whole answer, to its end. Whoami's line is `pod node cluster zone`; others' answers have no words."""
    if not raw:
        return Answer("closed without an answer")
    head, separator, body = raw.partition(b"\r\n\r\n")
    status = head.split(b"\r\n")[0].split()
    if not separator or len(status) < _STATUS_PARTS or not status[0].startswith(b"HTTP/1."):
        return Answer("no HTTP answer")
    if status[1] != b"200":
        return Answer(f"HTTP {status[1].decode(errors='replace')}")
    words = body.decode(errors="replace").split()
    match words:
        case [pod, node, cluster, zone, *_]:
            return Answer(words=(pod, node, cluster, zone))
        case _:
            return Answer()


# ------------------------------------------------------------------------------------------------------ names
def dns_query(name: str, identity: int) -> bytes:
    """A question for the A records of `name`."""
    labels = [label.encode("idna") for label in name.rstrip(".").split(".")]
    question = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    header = struct.pack("!6H", identity, 0x0100, 1, 0, 0, 0)
    return header + question + struct.pack("!2H", _TYPE_A, _CLASS_IN)


def parse_dns(raw: bytes, identity: int) -> list[str]:
    """The addresses in an answer. Raises ValueError with what is wrong instead."""
    try:
        found, flags, questions, answers, _, _ = struct.unpack_from("!6H", raw)
        if found != identity:
            raise ValueError("the DNS answer is of another question")
        if flags & 0xF:
            raise ValueError(f"DNS says {({3: 'NXDOMAIN', 2: 'SERVFAIL'}).get(flags & 0xF, flags)}")
        at = 12
        for _ in range(questions):
            at = _skip_name(raw, at) + 4
        addresses = []
        for _ in range(answers):
            at = _skip_name(raw, at)
            kind, _, _, length = struct.unpack_from("!2HIH", raw, at)
            at += 10
            if kind == _TYPE_A:
                addresses.append(str(ipaddress.IPv4Address(raw[at : at + length])))
            at += length
    except (struct.error, IndexError) as error:
        raise ValueError("the DNS answer is cut short") from error
    if not addresses:
        raise ValueError("DNS knows no address")
    return addresses


def _skip_name(raw: bytes, at: int) -> int:
    while True:
        length = raw[at]
        if length >= 0xC0:  # a pointer ends it
            return at + 2
        at += 1 + length
        if not length:
            return at
