"""Reading our table from the kernel directly: names, form and remembered clients. Read-only.

libnftables 1.0.6 reads every element of a table before it lists anything of it: two seconds of CPU at 128,000 elements
for a question that the kernel answers in a millisecond. Only what the proxy asks is decoded here.
"""

import hashlib
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator

NETLINK_NETFILTER = 12
SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
GET_CHAIN, GET_RULE, GET_SET, GET_ELEMENTS = 4, 7, 10, 13
REQUEST_DUMP = 0x001 | 0x300
DONE, ERROR = 3, 2
INTERRUPTED = 0x10
FAMILIES = {"inet": 1, "ip": 2, "ip6": 10}
SET_ANONYMOUS, SET_MAP = 0x1, 0x8
RECEIVE_BYTES = 1 << 18
TRIES_MAX = 10
PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}

Attributes = dict[int, bytes]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += (length + 3) & ~3


def _text(kind: int, value: str) -> bytes:
    data = value.encode() + b"\0"
    return struct.pack("=HH", len(data) + 4, kind) + data + b"\0" * (-len(data) % 4)


def _dump(message: int, family: str, *attributes: bytes) -> list[bytes]:
    """The payloads of all answers, without their headers. Raises OSError with the kernel's number."""
    body = struct.pack("=BBH", FAMILIES[family], 0, 0) + b"".join(attributes)
    head = struct.pack("=IHHII", 16 + len(body), SUBSYSTEM | message, REQUEST_DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as link:
        link.bind((0, 0))
        for _ in range(TRIES_MAX):
            link.send(head + body)
            answers, torn = _receive(link)
            if not torn:
                return answers
    raise OSError(4, "the table changed at every attempt to read it")


def _receive(link: socket.socket) -> tuple[list[bytes], bool]:
    """Payloads, and whether the kernel changed under the reading."""
    answers: list[bytes] = []
    torn = False
    while True:
        data = link.recv(RECEIVE_BYTES)
        at = 0
        while at + 16 <= len(data):
            length, kind, flags = struct.unpack_from("=IHH", data, at)
            torn = torn or bool(flags & INTERRUPTED)
            if kind == DONE:
                return answers, torn
            if kind == ERROR:
                number = -struct.unpack_from("=i", data, at + 16)[0]
                raise OSError(number, os.strerror(number))
            answers.append(data[at + 20 : at + length])
            at += (length + 3) & ~3


def _string(data: bytes) -> str:
    return data.rstrip(b"\0").decode()


def read_form(family: str, table: str) -> tuple[list[tuple[str, str]], str]:
    """Maps, sets and chains by name, and a digest of chains and rules; nothing and "" where there is no table."""
    digest = hashlib.blake2b(digest_size=16)
    found: list[tuple[str, str]] = []
    try:
        for answer in _dump(GET_SET, family, _text(1, table)):
            fields = dict(_attributes(answer))
            flags = int.from_bytes(fields.get(3, b""), "big")
            if not flags & SET_ANONYMOUS:
                found.append(("map" if flags & SET_MAP else "set", _string(fields[2])))
        rules = _dump(GET_RULE, family, _text(1, table))
    except FileNotFoundError:
        return [], ""
    for answer in _dump(GET_CHAIN, family):
        fields = dict(_attributes(answer))
        if _string(fields[1]) == table:
            found.append(("chain", _string(fields[3])))
            digest.update(fields.get(4, b"") + fields.get(5, b""))  # hook and policy
    digest.update(repr(sorted(found)).encode())
    for rule in rules:
        digest.update(rule)
    return found, digest.hexdigest()


def read_clients(table: str, name: str) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Elements of the map of remembered IPv4 clients: client, address, protocol, port; endpoint and its port."""
    rows: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    for answer in _dump(GET_ELEMENTS, "ip", _text(1, table), _text(2, name)):
        for kind, nested in _attributes(answer):
            if kind == 3:
                rows += [_client(dict(_attributes(one))) for _, one in _attributes(nested)]
    return rows


def _client(element: Attributes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    key, value = dict(_attributes(element[1]))[1], dict(_attributes(element[2]))[1]
    protocol = PROTOCOLS.get(key[8], str(key[8]))
    return (
        (_address(key[0:4]), _address(key[4:8]), protocol, _port(key[12:14])),
        (_address(value[0:4]), _port(value[4:6])),
    )


def _address(data: bytes) -> str:
    return str(ipaddress.IPv4Address(data))


def _port(data: bytes) -> str:
    return str(int.from_bytes(data, "big"))
