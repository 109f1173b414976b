"""Protobuf messages by hand, independent of our decoder: each call gives the bytes of one field, its number first."""

import struct


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def part(field: int, *inner: bytes) -> bytes:
    body = b"".join(inner)
    return varint(field << 3 | 2) + varint(len(body)) + body


def double(field: int, value: float) -> bytes:
    return varint(field << 3 | 1) + struct.pack("<d", value)


def text(field: int, value: str) -> bytes:
    return part(field, value.encode())


def envelope(api_version: str, kind: str, *body: bytes) -> bytes:
    unknown = part(1, text(1, api_version), text(2, kind)), part(2, *body), text(3, ""), text(4, "")
    return b"k8s\x00" + b"".join(unknown)
