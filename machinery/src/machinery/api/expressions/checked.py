"""Checked expressions as the library writes them (`cel.expr.CheckedExpr`): read, walked, changed, written back.

The library has no door to its syntax trees, but it writes and reads them as protobuf. The messages are few and their numbers
are fixed, so they are declared here as a table instead of being a dependency. A reference's `overload_id` says which
declarations a call may be, `positions` where a node stands in the text.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

Node = Any
"""A cel.expr.Expr."""
TypeNode = Any
"""A cel.expr.Type."""
_SCALARS: Final = {"double": 1, "int64": 3, "uint64": 4, "int32": 5, "bool": 8, "string": 9, "bytes": 12}  # fmt: skip
_MESSAGE: Final = 11
_MESSAGES: Final[Mapping[str, str]] = {
    "Nothing": "",
    "Ident": "name:string=1",
    "Select": "operand:Expr=1 field:string=2 test_only:bool=3",
    "Call": "target:Expr=1 function:string=2 args:*Expr=3",
    "CreateList": "elements:*Expr=1 optional_indices:*int32=2",
    "Entry": "id:int64=1 field_key:string=2 map_key:Expr=3 value:Expr=4 optional_entry:bool=5",
    "CreateStruct": "message_name:string=1 entries:*Entry=2",
    "Comprehension": "iter_var:string=1 iter_range:Expr=2 accu_var:string=3 accu_init:Expr=4 loop_condition:Expr=5 "
    "loop_step:Expr=6 result:Expr=7 iter_var2:string=8",
    "Constant": "null_value:int32=1 bool_value:bool=2 int64_value:int64=3 uint64_value:uint64=4 double_value:double=5 "
    "string_value:string=6 bytes_value:bytes=7",
    "Expr": "id:int64=2 const_expr:Constant=3 ident_expr:Ident=4 select_expr:Select=5 call_expr:Call=6 list_expr:CreateList=7 "
    "struct_expr:CreateStruct=8 comprehension_expr:Comprehension=9",
    "ListType": "elem_type:Type=1",
    "MapType": "key_type:Type=1 value_type:Type=2",
    "AbstractType": "name:string=1 parameter_types:*Type=2",
    "Type": "dyn:Nothing=1 null:int32=2 primitive:int32=3 wrapper:int32=4 well_known:int32=5 list_type:ListType=6 "
    "map_type:MapType=7 message_type:string=9 type_param:string=10 type:Type=11 error:Nothing=12 abstract_type:AbstractType=14",
    "Reference": "name:string=1 overload_id:*string=3 value:Constant=4",
    "TypeAt": "key:int64=1 value:Type=2",
    "ReferenceAt": "key:int64=1 value:Reference=2",
    "PositionAt": "key:int64=1 value:int32=2",
    "SourceInfo": "line_offsets:*int32=3 positions:*PositionAt=4",
    "Any": "type_url:string=1 value:bytes=2",
    "CheckedExpr": "reference_map:*ReferenceAt=2 type_map:*TypeAt=3 expr:Expr=4 source_info:SourceInfo=5",
}  # fmt: skip
_PRIMITIVES: Final = ("", "bool", "int", "uint", "double", "string", "bytes")
_WELL_KNOWN: Final = ("", "any", "google.protobuf.Timestamp", "google.protobuf.Duration")
_TIMES: Final = {"google.protobuf.Timestamp": "timestamp", "google.protobuf.Duration": "duration"}


_URL: Final = "type.googleapis.com/cel.expr.CheckedExpr"


@cache
def _classes() -> tuple[Any, Any]:
    """Of the expression, and of the envelope that the library puts it in."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: PLC0415 - only where there are expressions

    file = descriptor_pb2.FileDescriptorProto(name="checked.proto", package="cel.expr")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields.split():
            title, _, rest = field.partition(":")
            kind, _, number = rest.partition("=")
            added = message.field.add(name=title, number=int(number))
            added.label = 3 if kind[0] == "*" else 1
            kind = kind.lstrip("*")
            added.type = _SCALARS.get(kind, _MESSAGE)
            if added.type == _MESSAGE:
                added.type_name = f".cel.expr.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    found = [pool.FindMessageTypeByName(f"cel.expr.{name}") for name in ("CheckedExpr", "Any")]
    checked, envelope = map(message_factory.GetMessageClass, found)
    return checked, envelope


class Checked:
    """One checked expression. `nodes` may be changed in place."""

    def __init__(self, serialized: bytes) -> None:
        checked, envelope = _classes()
        self.whole = checked.FromString(envelope.FromString(serialized).value)
        self.types: dict[int, TypeNode] = {one.key: one.value for one in self.whole.type_map}
        self.references = {one.key: one.value for one in self.whole.reference_map}

    @property
    def root(self) -> Node:
        return self.whole.expr

    @property
    def positions(self) -> dict[int, int]:
        """Where nodes stand in the text, in letters from its begin."""
        return {one.key: one.value for one in self.whole.source_info.positions}

    def written(self) -> bytes:
        """For the library to read."""
        _, envelope = _classes()
        written: bytes = envelope(
            type_url=_URL, value=self.whole.SerializeToString()
        ).SerializeToString()
        return written

    def overloads(self, node: Node) -> list[str]:
        """Which declarations a call may be."""
        found = self.references.get(node.id)
        return [] if found is None else list(found.overload_id)

    def names(self) -> set[str]:
        """The variables that it uses, qualified ones whole."""
        return {
            one.value.name for one in self.whole.reference_map if one.value.name
        }  # fmt: skip

    def returns(self) -> str:
        """Its type, as upstream writes it: `list(string)`."""
        return text_of(self.types.get(self.root.id))

    def fresh(self) -> int:
        """An id that no node has."""
        return max((node.id for node in walk(self.root)), default=0) + 1


def walk(node: Node) -> Iterator[Node]:
    """The node and everything in it, outer nodes first."""
    left = [node]
    while left:
        one = left.pop()
        yield one
        left.extend(reversed(list(parts(one))))


def parts(node: Node) -> Iterator[Node]:
    """What a node is made of."""
    if node.HasField("select_expr"):
        yield node.select_expr.operand
    elif node.HasField("call_expr"):
        if node.call_expr.HasField("target"):
            yield node.call_expr.target
        yield from node.call_expr.args
    elif node.HasField("list_expr"):
        yield from node.list_expr.elements
    elif node.HasField("struct_expr"):
        for entry in node.struct_expr.entries:
            if entry.HasField("map_key"):
                yield entry.map_key
            yield entry.value
    elif node.HasField("comprehension_expr"):
        loop = node.comprehension_expr
        yield from (
            loop.iter_range, loop.accu_init, loop.loop_condition, loop.loop_step, loop.result
        )  # fmt: skip


def constant(node: Node) -> Any:
    """The value of a literal; None of anything else, and of null."""
    if not node.HasField("const_expr"):
        return None
    for field, value in node.const_expr.ListFields():
        return None if field.name == "null_value" else value
    return None


def text_of(kind: TypeNode | None) -> str:  # noqa: PLR0911 - a type is of one of these forms
    """A type as upstream writes it."""
    if kind is None:
        return "dyn"
    if kind.HasField("primitive"):
        return _PRIMITIVES[kind.primitive]
    if kind.HasField("wrapper"):
        return f"wrapper({_PRIMITIVES[kind.wrapper]})"
    if kind.HasField("well_known"):
        name = _WELL_KNOWN[kind.well_known]
        return _TIMES.get(name, name)
    if kind.HasField("list_type"):
        return f"list({text_of(kind.list_type.elem_type)})"
    if kind.HasField("map_type"):
        return f"map({text_of(kind.map_type.key_type)}, {text_of(kind.map_type.value_type)})"
    if kind.HasField("message_type"):
        return str(kind.message_type)
    if kind.HasField("type_param"):
        return str(kind.type_param)
    if kind.HasField("abstract_type"):
        inner = ", ".join(text_of(one) for one in kind.abstract_type.parameter_types)
        return f"{kind.abstract_type.name}({inner})" if inner else str(kind.abstract_type.name)
    if kind.HasField("null"):
        return "null_type"
    return "type" if kind.HasField("type") else "dyn"
