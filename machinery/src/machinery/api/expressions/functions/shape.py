"""How a function of expressions is declared here, and the values that only functions can make.

Values of Kubernetes' own types (`net.IP`, `kubernetes.Quantity`, …) are protobuf messages with one text in them, the canonical
form: the library can carry nothing else through an expression, and compares them by it.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

Value = Any
"""What the library hands to Python: str, int, float, bool, None, bytes, list, dict, datetime, timedelta, messages."""

QUANTITY: Final = "kubernetes.Quantity"
URL: Final = "kubernetes.URL"
FORMAT: Final = "kubernetes.NamedFormat"
SEMVER: Final = "kubernetes.Semver"
IMAGE: Final = "kubernetes.Image"
IP: Final = "net.IP"
CIDR: Final = "net.CIDR"
AUTHORIZER: Final = "kubernetes.authorization.Authorizer"
PATH_CHECK: Final = "kubernetes.authorization.PathCheck"
GROUP_CHECK: Final = "kubernetes.authorization.GroupCheck"
RESOURCE_CHECK: Final = "kubernetes.authorization.ResourceCheck"
DECISION: Final = "kubernetes.authorization.Decision"
PAIR: Final = "kubernetes.pair"
"""Two values, `kubernetes.pair<~K,~A>`: a list of two where expressions run."""
MADE: Final = (
    QUANTITY, URL, FORMAT, SEMVER, IMAGE, IP, CIDR,
    AUTHORIZER, PATH_CHECK, GROUP_CHECK, RESOURCE_CHECK, DECISION,
)  # fmt: skip
_FIELD: Final = "canonical"


class Function(NamedTuple):
    """One overload. Types are written `list<~A>`, `map<string,dyn>`, `net.IP`; `~A` stands for any type."""

    name: str
    overload: str
    parameters: tuple[str, ...]
    returns: str
    run: Callable[..., Value]
    """Raises ValueError with the message that evaluation ends with."""
    member: bool = True


class NoOverload(Exception):
    """Called with values that no declaration takes."""

    def __init__(self) -> None:
        super().__init__("no such overload")


def free(
    name: str, overload: str, parameters: tuple[str, ...], returns: str, run: Callable[..., Value]
) -> Function:
    """A function that is no method."""
    return Function(name, overload, parameters, returns, run, member=False)


@cache
def pool() -> Any:
    """The descriptors of all made types."""
    return new_pool()


def new_pool() -> Any:
    """A pool of its own with them, and with the types that protobuf knows."""
    from google.protobuf import (  # noqa: PLC0415 - only where there are expressions
        any_pb2,
        descriptor_pool,
        duration_pb2,
        empty_pb2,
        struct_pb2,
        timestamp_pb2,
        wrappers_pb2,
    )

    found = descriptor_pool.DescriptorPool()
    for module in (any_pb2, duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2):
        found.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    _add_made(found)
    return found


def _add_made(found: Any) -> None:
    """The made types' descriptors into a pool."""
    from google.protobuf import descriptor_pb2  # noqa: PLC0415

    for name in MADE:
        package, _, title = name.rpartition(".")
        file = descriptor_pb2.FileDescriptorProto(
            name=f"made/{name}.proto", package=package, syntax="proto3"
        )
        field = file.message_type.add(name=title).field.add(name=_FIELD, number=1)
        field.type, field.label = 9, 1
        found.AddSerializedFile(file.SerializeToString())


@cache
def _class(name: str) -> Any:
    from google.protobuf import message_factory  # noqa: PLC0415

    return message_factory.GetMessageClass(pool().FindMessageTypeByName(name))


def made(name: str, text: str) -> Value:
    """A value of a made type."""
    return _class(name)(**{_FIELD: text})


def carried(value: Value) -> Value:
    """A time or duration as the library takes it; anything else as it is."""
    if not isinstance(value, (dt.datetime, dt.timedelta)):
        return value
    from google.protobuf import duration_pb2, timestamp_pb2  # noqa: PLC0415

    if isinstance(value, dt.timedelta):
        span = duration_pb2.Duration()
        span.FromTimedelta(value)
        return span
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(value)
    return stamp


def text_in(value: Value) -> str:
    """The canonical form in it."""
    return str(getattr(value, _FIELD))


def type_in(value: Value) -> str:
    """The made type of a value; empty for anything else."""
    descriptor = getattr(value, "DESCRIPTOR", None)
    return "" if descriptor is None else str(descriptor.full_name)


_CLASSES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,), "bool": (bool,), "int": (int,), "double": (float,), "bytes": (bytes, bytearray),
}  # fmt: skip


def takes(parameter: str, value: Value) -> bool:
    """Whether a value may stand where a parameter of that type is."""
    if parameter.startswith(("list<", PAIR)):
        return isinstance(value, list)
    if parameter.startswith("map<"):
        return isinstance(value, dict)
    classes = _CLASSES.get(parameter)
    if classes is not None:
        return isinstance(value, classes) and (parameter == "bool") == isinstance(value, bool)
    return parameter in ("dyn", type_in(value)) or parameter.startswith("~")


def same(left: Value, right: Value) -> bool:
    """CEL's equality: numbers by value, and a truth value is no number."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    return bool(left == right)
