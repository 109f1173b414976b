# ruff: noqa: INP001
"""Packs the protobuf field table of the API. Run by hand, the result is committed:

    .venv/bin/python machinery/tools/build_protobuf.py

In: protobuf_fields.txt beside this script. Out: one zlib-compressed JSON file, message -> rows of [number, name, type, pointer],
in which inlined messages are still references; the decoder resolves them on first use of a message.
"""

import json
import re
import sys
import zlib
from pathlib import Path

SOURCE = Path(__file__).parent / "protobuf_fields.txt"
OUT = Path(__file__).parent.parent / "src/machinery/api/data/protobuf.json.zlib"
SCALARS = frozenset(
    [
        "string",
        "int",
        "bool",
        "float",
        "bytes",
        "time",
        "micro",
        "quantity",
        "intstr",
        "raw",
        "json",
        "value",
        "strings",
    ]
)
FIELD = re.compile(r"(?P<name>[^:]+):(?P<number>\d+)=(?P<pointer>\*?)(?P<type>\S+)")
WRAPPED = re.compile(r"^(?:\[\]|map<)?(?P<inner>[^>]+)>?$")


def main() -> int:
    messages: dict[str, list[list[object]]] = {}
    for line in SOURCE.read_text().splitlines():
        if line.startswith("#") or not line.strip():
            continue
        name, *fields = line.split()
        messages[name] = [_row(field) for field in fields]
    for name, rows in messages.items():
        for row in rows:
            inner = WRAPPED.match(str(row[2]))
            if inner is None or (inner["inner"] not in SCALARS and inner["inner"] not in messages):
                sys.stderr.write(f"{name}.{row[1]}: unknown type {row[2]}\n")
                return 1
    OUT.write_bytes(zlib.compress(json.dumps(messages, separators=(",", ":")).encode(), 9))
    return 0


def _row(field: str) -> list[object]:
    match = FIELD.fullmatch(field)
    if match is None:
        raise SystemExit(f"not a field: {field}")
    return [int(match["number"]), match["name"], match["type"], int(bool(match["pointer"]))]


if __name__ == "__main__":
    sys.exit(main())
