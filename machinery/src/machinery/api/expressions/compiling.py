"""From the text of an expression to a program that runs, or to a complaint in the words of upstream's compiler.

    text → rewritten (source) → checked by the library → judged (literals) → changed (variables, optionals) → program

A variable `variables.x` of a policy is a call that runs when it is first needed in an expression, once for each; the errors
of one that nobody needs do not matter, as upstream has it.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from machinery.api.expressions import checked, library, literals, source
from machinery.api.expressions.functions.shape import Function, carried, free
from machinery.api.expressions.functions.variables import PREFIX
from machinery.api.expressions.records import Records
from machinery.api.expressions.source import Origin

LETTERS_MAX: Final = 16 * 1024
"""Of one expression; the longest in use have about two thousand."""
_MARK: Final = "\x00type"
"""The key of a map that was written as a structure; its value is the structure's title."""


class CompileFault(Exception):
    """It does not compile; the message is what upstream says, without `compilation failed: `."""


class EvaluationFault(ValueError):
    """It ended with an error; the message is upstream's."""


class Exhausted(EvaluationFault):
    """It did too much."""


class Scope(NamedTuple):
    """What an expression may name."""

    variables: tuple[tuple[str, str], ...]
    """(name, type): `dyn`, `list<string>`, `kubernetes.AdmissionRequest`, … A policy's own ones are `variables.NAME`."""
    structs: bool = False
    """Whether `Object{…}` and `JSONPatch{…}` may be written."""
    records: Records | None = None
    """Types with fields."""
    functions: tuple[Function, ...] = ()
    """More of them."""
    mixed: bool = False
    """Whether parts of a list or map that is written out may be of different types, which Kubernetes never allows."""

    renamed: tuple[tuple[str, str], ...] = ()
    """(a variable as it is written, the one that it is): many types of `self` in one environment, which is dear to make."""

    def having(self, name: str, kind: str) -> "Scope":
        """With one variable more."""
        return self._replace(variables=(*self.variables, (name, kind)))


class Program:
    """A compiled expression."""

    def __init__(self, text: str, found: checked.Checked, functions: tuple[Function, ...]) -> None:
        self.text = text
        self.returns = found.returns()
        """Its type as upstream writes it: `bool`, `list(string)`, `Object.spec`, `dyn`."""
        self.names = frozenset(found.names())
        _Changing(found).change()
        self._environment = library.running(functions)
        self._run = self._environment.deserialize(found.written())

    def run(self, data: Mapping[str, Any]) -> Any:
        """The library's own value, errors included. Raises RuntimeError."""
        return self._run.eval(data=dict(data))

    def value(self, activation: Any) -> Any:
        """Its value in Python's terms; of an optional a list of none or one. Raises EvaluationFault."""
        try:
            found = self._run.eval(activation=activation)
        except RuntimeError as error:
            raise _fault(str(error)) from None
        name = found.type().name()
        if name == "ERROR":
            raise _fault(str(found.value()))
        return None if name == "NULL" else found.plain_value()


def activation(values: Mapping[str, Any]) -> Any:
    """The values of variables, converted once for all programs that run with it."""
    return library.running().Activation(
        data={name: carried(value) for name, value in values.items()}
    )


# --------------------------------------------------------------------------------------------------------- compiling
@lru_cache(maxsize=64)
def _environment(
    variables: tuple[tuple[str, str], ...], functions: tuple[Function, ...], found: Any
) -> Any:
    return library.checking(dict(variables), functions, found.pool if found else None)


@lru_cache(maxsize=1024)
def compiled(scope: Scope, text: str) -> Program:
    """The program of an expression. Raises CompileFault; the library must be there."""
    if len(text) > LETTERS_MAX:
        raise CompileFault(
            f"ERROR: <input>:-1:0: expression code point size exceeds limit: size: {len(text)}, limit {LETTERS_MAX}"
        )
    return Program(text, check(scope, text), scope.functions)


def check(scope: Scope, text: str) -> checked.Checked:
    """The syntax tree with its types. Raises CompileFault."""
    origin = source.rewritten(text, structs=scope.structs, renamed=dict(scope.renamed))
    written = origin.text if origin else text
    titles = sorted(source.titles_in(written)) if scope.structs else []
    functions = (*scope.functions, *(_maker(title) for title in titles))
    environment = _environment(scope.variables, functions, scope.records)
    try:
        expression = environment.compile(written)
    except RuntimeError as error:
        raise CompileFault(_shown(text, origin, _complaints(str(error), written))) from None
    found = checked.Checked(expression.serialize())
    if complaints := list(literals.complaints(found, mixed=scope.mixed)):
        raise CompileFault(_shown(text, origin, complaints))
    return found


def _maker(title: str) -> Function:
    name = source.function_of(title)
    return free(name, name, ("map<string,dyn>",), title, lambda fields: fields)


_COMPLAINT: Final = re.compile(r"^ERROR: <input>:(-?\d+):(-?\d+): (.*)$", re.MULTILINE)


def _complaints(told: str, written: str) -> list[tuple[int, str]]:
    """(where, what) of what the library complains about."""
    lines = written.split("\n")
    out = []
    plainly = told.removeprefix("INVALID_ARGUMENT: ").removesuffix(" [INVALID_ARGUMENT]")
    for found in _COMPLAINT.finditer(plainly):
        line, column, words = int(found[1]), int(found[2]), found[3]
        before = sum(len(one) + 1 for one in lines[: max(line - 1, 0)])
        at = before + max(column - 1, 0)
        if "'*error*'" in words:  # it follows from what was told before
            continue
        out.append(_in_upstream_words(at, words, written))
    return out or [(0, told)]


_SELECTED: Final = re.compile(
    r"expression of type '(.*)' cannot be the operand of a select operation"
)
_UNDECLARED: Final = re.compile(r"undeclared reference to '([\w.]+)'( \(in container ''\))?")
_UNKNOWN_FIELD: Final = re.compile(r"undefined field '(.*)' not found in struct '.*'")


def _in_upstream_words(at: int, words: str, written: str) -> tuple[int, str]:
    words = words.replace("'\\u003F'", "'?'").removesuffix(" [INVALID_ARGUMENT]")
    if found := _SELECTED.fullmatch(words):
        return at, f"type '{found[1]}' does not support field selection"
    if found := _UNKNOWN_FIELD.fullmatch(words):
        return at, f"undefined field '{found[1]}'"
    found = _UNDECLARED.fullmatch(words)
    if found is None:
        return at, words
    name = found[1]
    head, _, last = name.rpartition(".")
    begin = at - len(head)
    if head.startswith(PREFIX.rstrip(".")) and written[begin : begin + len(name)] == name:
        return at, f"undefined field '{last}'"
    if head and written[begin : begin + len(name)] == name:
        return begin, f"undeclared reference to '{head.partition('.')[0]}' (in container '')"
    return at, f"undeclared reference to '{name}' (in container '')"


def _shown(text: str, origin: Origin | None, complaints: list[tuple[int, str]]) -> str:
    """Complaints with the lines that they are about."""
    out = []
    for at, words in complaints:
        place = min(origin.of(at, text) if origin else at, len(text))
        line = text.count("\n", 0, place)
        column = place - (text.rfind("\n", 0, place) + 1)
        shown = text.split("\n")[line]
        out.append(
            f"ERROR: <input>:{line + 1}:{column + 1}: {words}\n | {shown}\n | {'.' * column}^"
        )
    return "\n".join(out)  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- changing
class _Changing:
    """A syntax tree on its way from the checker's declarations to the values that there are."""

    def __init__(self, found: checked.Checked) -> None:
        self._found = found
        self._id = found.fresh()
        self._bound: dict[str, checked.Node] = {}

    def change(self) -> None:
        for node in reversed(list(checked.walk(self._found.root))):  # inner ones first
            if node.HasField("call_expr"):
                self._call(node)
            elif node.HasField("select_expr") or node.HasField("ident_expr"):
                self._name(node)
        root = self._found.root
        if checked.text_of(self._found.types.get(root.id)).startswith("optional_type("):
            held = self._copy(root)
            self._clear(root).list_expr.elements.append(held)
            root.list_expr.optional_indices.append(0)
        for name, kind in self._bound.items():
            self._bind(name, kind)

    def _fresh(self) -> int:
        self._id += 1
        return self._id

    def _copy(self, node: checked.Node) -> checked.Node:
        out = type(node)()
        out.CopyFrom(node)
        return out

    def _clear(self, node: checked.Node) -> checked.Node:
        """The same node, empty, with an id that nothing is known of."""
        node.Clear()
        node.id = self._fresh()
        return node

    def _call(self, node: checked.Node) -> None:
        function = node.call_expr.function
        if title := source.title_of(function):
            made = self._copy(node.call_expr.args[0])
            entry = made.struct_expr.entries.add(id=self._fresh())
            entry.map_key.id, entry.value.id = self._fresh(), self._fresh()
            entry.map_key.const_expr.string_value = _MARK
            entry.value.const_expr.string_value = title
            node.CopyFrom(made)
            return
        overloads = self._found.overloads(node)
        if len(overloads) != 1:
            return
        if other := library.RUN_AS.get(overloads[0]):
            node.call_expr.function = other
            self._forget(node)
        if overloads[0] in library.OPTIONALS:
            held = self._copy(node)
            call = self._clear(node).call_expr
            call.function = "optional.ofNonZeroValue"
            call.args.append(held)

    def _forget(self, node: checked.Node) -> None:
        """Its name is another one now: what the checker knew of the call does not hold."""
        self._found.references.pop(node.id, None)
        kept = [one for one in self._found.whole.reference_map if one.key != node.id]
        del self._found.whole.reference_map[:]
        self._found.whole.reference_map.extend(kept)

    def _name(self, node: checked.Node) -> None:
        found = self._found.references.get(node.id)
        if found is None or not found.name.startswith(PREFIX):
            return
        self._bound[found.name] = self._found.types.get(node.id)
        name = f"{found.name.replace('.', '__')}__"
        self._clear(node).ident_expr.name = name

    def _bind(self, name: str, kind: Any) -> None:
        """The whole expression within `cel.bind(variables__x__, variable__("x"), …)`."""
        root = self._found.root
        held = self._copy(root)
        loop = self._clear(root).comprehension_expr
        loop.iter_var = "#unused"
        loop.accu_var = f"{name.replace('.', '__')}__"
        loop.iter_range.id = self._fresh()
        loop.iter_range.list_expr.SetInParent()
        call = loop.accu_init
        if checked.text_of(kind).startswith("optional_type("):
            call.id = self._fresh()
            call.call_expr.function = "first"
            call = call.call_expr.target
        call.id = self._fresh()
        call.call_expr.function = "variable__"
        argument = call.call_expr.args.add(id=self._fresh())
        argument.const_expr.string_value = name.removeprefix(PREFIX)
        loop.loop_condition.id = self._fresh()
        loop.loop_condition.const_expr.bool_value = False
        loop.loop_step.id = self._fresh()
        loop.loop_step.ident_expr.name = loop.accu_var
        loop.result.CopyFrom(held)


# ------------------------------------------------------------------------------------------------------------ values
_CODE: Final = re.compile(r"^[A-Z_]+: ")
_NO_KEY: Final = re.compile(r'Key not found in map : "(.*)"', re.DOTALL)
_NO_INDEX: Final = re.compile(r"Index error: index=(-?\d+) size=\d+")
_WORDS: Final = {
    "divide by zero": "division by zero",
    "modulus by zero": "modulus by zero",
    "integer overflow": "integer overflow",
}


def _fault(told: str) -> EvaluationFault:
    """What the library says of a run that failed, in upstream's words."""
    if told.startswith(("INTERNAL: Iteration budget", "INTERNAL: Maximum recursion")):
        return Exhausted("operation cancelled: actual cost limit exceeded")
    words = _CODE.sub("", told).removesuffix(" [INTERNAL]")
    if found := _NO_KEY.fullmatch(words):
        return EvaluationFault(f"no such key: {found[1]}")
    if found := _NO_INDEX.fullmatch(words):
        return EvaluationFault(f"index out of bounds: {found[1]}")
    if words.startswith("No matching overloads found"):
        return EvaluationFault("no such overload")
    return EvaluationFault(_WORDS.get(words, words))


class Mismatch(EvaluationFault):
    """A structure stands where another one belongs."""


def plain(value: Any) -> Any:
    """A structure as a plain document. Raises Mismatch where its titles do not fit the fields that they stand in."""
    _check_titles(value, None)
    return _unmarked(value)


def _check_titles(value: Any, expected: str | None) -> None:
    if isinstance(value, list):
        for one in value:
            _check_titles(one, expected)
    if not isinstance(value, dict):
        return
    title = value.get(_MARK)
    if title is None:
        for one in value.values():
            _check_titles(one, expected)
        return
    if expected is not None and title != expected:
        raise Mismatch(
            f'type mismatch: unexpected type name "{title}", expected "{expected}", which matches field name path from root Object type'
        )
    for key, one in value.items():
        if key != _MARK:
            _check_titles(one, f"{title}.{key}")


def _unmarked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unmarked(one) for key, one in value.items() if key != _MARK}
    return [_unmarked(one) for one in value] if isinstance(value, list) else value
