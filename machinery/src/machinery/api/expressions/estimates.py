"""What a rule of a definition costs at worst, in upstream's units: the sum by which apiextensions-apiserver refuses definitions.

The walk is that of cel-go's estimate (`checker/cost.go`), the prices of Kubernetes' functions are those of apiserver's
`cel/library/cost.go`: both decide which definitions a server takes, so their oddities are kept. Only upper bounds are counted, as
nothing asks for lower ones; a bound that is not known is the largest number that there is, and sums stop there.

Where records cannot say a type (lists of lists within objects), what the schema declares for the path is taken instead.
"""

from collections.abc import Sequence
from math import ceil
from typing import Final, NamedTuple

from machinery.api.expressions.checked import Checked, Node, constant, text_of
from machinery.api.expressions.declared import REQUEST_BYTES, Declared

MOST: Final = 2**64 - 1
PER_RULE: Final = 10_000_000
PER_SCHEMA: Final = 100_000_000
_LETTER: Final = 0.1
_PATTERN_LETTER: Final = 0.25
_LIST, _MAP, _STRUCT = 10, 30, 40
_CHECK: Final = 350_000
_FORMAT_PATTERN: Final = 128
_FORMAT_LETTERS: Final = 64
_HELD: Final = ("__result__", "@result")
_SCALARS: Final = frozenset({"bool", "double", "duration", "int", "timestamp", "uint"})
_ONE: Final = frozenset(
    {
        "serviceAccount", "path", "group", "resource", "subresource", "namespace", "name", "allowed", "reason", "error",
        "errored", "masked", "prefixLength", "family", "isUnspecified", "isLoopback", "isLinkLocalMulticast",
        "isLinkLocalUnicast", "isGlobalUnicast", "format.named", "sign", "asInteger", "isInteger", "asApproximateFloat",
        "isGreaterThan", "isLessThan", "compareTo", "add", "sub", "major", "minor", "patch", "getScheme", "getHostname",
        "getHost", "getPort", "getEscapedPath", "getQuery",
    }
)  # fmt: skip
"""Functions of Kubernetes that cost one unit."""
_COMPARED: Final = frozenset(
    {"equals", "not_equals"}
    | {f"{name}_{kind}" for name in ("less", "greater", "less_equals", "greater_equals") for kind in ("string", "bytes")}
)  # fmt: skip
_Path = tuple[str, ...]


class Size(NamedTuple):
    """Of a text, a list or a map; bounds included."""

    least: int
    most: int


class _Entries(NamedTuple):
    """What is in a list or map that was written out."""

    sort: str
    key: Size
    value: Size


class _Local(NamedTuple):
    """A variable of a macro."""

    path: _Path
    size: Size | None
    entries: _Entries | None


_UNKNOWN: Final = Size(0, MOST)
_Answer = tuple[int, Size | None]


def cost(found: Checked, root: Declared) -> int:
    """The units of one run. `root` is what `self` is."""
    return _Estimate(found, root).cost(found.root)


def repeated(root: Declared) -> int:
    """How often a node can be in an object, where nothing bounds what it is in."""
    return REQUEST_BYTES // (root.least + 1)


def product(*factors: int) -> int:
    """It, as far as numbers go."""
    out = 1
    for factor in factors:
        out *= factor
    return min(out, MOST)


def _total(*parts: int) -> int:
    return min(sum(parts), MOST)


def _priced(count: int, factor: float) -> int:
    return MOST if count == MOST else min(ceil(count * factor), MOST)


def _either(left: Size, right: Size) -> Size:
    return Size(min(left.least, right.least), max(left.most, right.most))


def _both(left: Size, right: Size) -> Size:
    return Size(_total(left.least, right.least), _total(left.most, right.most))


def _mixed(left: _Entries | None, right: _Entries | None) -> _Entries | None:
    if left is None or right is None:
        return None
    return _Entries(left.sort, _either(left.key, right.key), _either(left.value, right.value))


class _Estimate:
    """One walk."""

    def __init__(self, found: Checked, root: Declared) -> None:
        self._found, self._root = found, root
        self._paths: dict[int, _Path] = {}
        self._locals: dict[str, list[_Local]] = {}
        self._sizes: dict[int, Size] = {}
        self._entries: dict[int, _Entries] = {}

    def cost(self, node: Node) -> int:
        """Of a node and all in it."""
        match _kind_of(node):
            case "ident":
                name = node.ident_expr.name
                held = self._local(name)
                self._paths[node.id] = held.path if held else (name,)
                return 1
            case "select":
                return self._select(node)
            case "call":
                return self._call(node)
            case "list":
                return self._list(node)
            case "struct":
                return self._struct(node)
            case "loop":
                return self._loop(node)
            case _:
                return 0

    # ------------------------------------------------------------------------------------------------------ what is known
    def _local(self, name: str) -> _Local | None:
        held = self._locals.get(name)
        return held[-1] if held else None

    def _path(self, node: Node) -> _Path:
        if node.HasField("ident_expr") and (held := self._local(node.ident_expr.name)):
            return held.path
        return self._paths.get(node.id, ())

    def _declared(self, path: _Path) -> Declared | None:
        """At a path whose first part is a variable, whichever it is."""
        return self._root.at(path[1:]) if path else None

    def _type(self, node: Node) -> str:
        """As upstream writes it; by what is declared where the tree does not know."""
        told = text_of(self._found.types.get(node.id))
        if told == "dyn" and (found := self._declared(self._path(node))) is not None:
            return found.sort
        return told

    def _sort(self, node: Node) -> str:
        """`list`, `map`, `object`, or another type."""
        told = self._type(node)
        for sort in ("list", "map"):
            if told == sort or told.startswith(f"{sort}("):
                return sort
        return "object" if told.startswith("self.R") else told

    def _size(self, node: Node) -> Size | None:
        if (size := self._sizes.get(node.id)) is not None:
            return size
        if (size := _written(node)) is not None:
            return size
        if (found := self._declared(self._path(node))) is not None:
            size = self._sizes[node.id] = Size(0, found.most)
            return size
        told = self._type(node).removeprefix("optional_type(").rstrip(")")
        if told in _SCALARS:
            return Size(1, 1)
        if node.HasField("ident_expr") and (held := self._local(node.ident_expr.name)):
            return held.size
        return None

    def _known(self, node: Node) -> Size:
        return self._size(node) or _UNKNOWN

    def _inside(self, node: Node) -> _Entries | None:
        if (found := self._entries.get(node.id)) is not None:
            return found
        held = self._local(node.ident_expr.name) if node.HasField("ident_expr") else None
        return held.entries if held else None

    # -------------------------------------------------------------------------------------------------------------- nodes
    def _select(self, node: Node) -> int:
        operand = node.select_expr.operand
        total = self.cost(operand)
        if node.select_expr.test_only:
            return total
        if self._sort(operand) in ("map", "object"):
            total = _total(total, 1)
        self._paths[node.id] = (*self._path(operand), node.select_expr.field)
        return total

    def _list(self, node: Node) -> int:
        elements = node.list_expr.elements
        total = _total(_LIST, *(self.cost(one) for one in elements))
        self._entries[node.id] = _Entries("list", Size(1, 1), self._any_of(elements))
        return total

    def _any_of(self, nodes: Sequence[Node]) -> Size:
        sizes = [self._known(one) for one in nodes]
        return Size(min((s.least for s in sizes), default=0), max((s.most for s in sizes), default=0))  # fmt: skip

    def _struct(self, node: Node) -> int:
        entries = node.struct_expr.entries
        if node.struct_expr.message_name:
            return _total(_STRUCT, *(self.cost(one.value) for one in entries))
        parts = [part for one in entries for part in (one.map_key, one.value)]
        total = _total(_MAP, *(self.cost(part) for part in parts))
        keys, values = self._any_of(parts[::2]), self._any_of(parts[1::2])
        self._entries[node.id] = _Entries("map", keys, values)
        return total

    def _loop(self, node: Node) -> int:
        loop = node.comprehension_expr
        if _binds(loop):
            return self._bind(node)
        over = _paired(loop.iter_range)
        total = _total(self.cost(over), self.cost(loop.accu_init))
        self._push(loop.accu_var, loop.accu_init)
        self._locals.setdefault(loop.iter_var, []).append(self._one_of(over))
        each = _total(self.cost(loop.loop_condition), self.cost(loop.loop_step))
        self._locals[loop.iter_var].pop()
        total = _total(total, self.cost(loop.result))
        self._locals[loop.accu_var].pop()
        count = self._known(over)
        if loop.accu_init.HasField("const_expr"):
            self._keep(node, self._size(loop.accu_init))
        else:
            self._keep(node, count)
            if (made := self._inside(loop.loop_step)) is not None:
                self._entries[node.id] = made
        return _total(total, product(count.most, each))

    def _one_of(self, over: Node) -> _Local:
        """The variable of a macro: an item of a list, a key of a map."""
        inside = self._inside(over)
        listed = (inside.sort if inside else self._sort(over)) == "list"
        size = None if inside is None else inside.value if listed else inside.key
        return _Local((*self._path(over), "@items" if listed else "@keys"), size, None)

    def _push(self, name: str, node: Node) -> None:
        held = _Local(self._path(node), self._size(node), self._inside(node))
        self._locals.setdefault(name, []).append(held)

    def _bind(self, node: Node) -> int:
        loop = node.comprehension_expr
        total = 0
        if (pair := self._of_pair(loop.accu_init)) is not None:
            self._locals.setdefault(loop.accu_var, []).append(pair)
        else:
            total = _total(_LIST, self.cost(loop.accu_init))
            self._push(loop.accu_var, loop.accu_init)
        total = _total(total, self.cost(loop.result))
        self._locals[loop.accu_var].pop()
        self._keep(node, self._size(loop.result))
        if (inside := self._inside(loop.result)) is not None:
            self._entries[node.id] = inside
        return total

    def _of_pair(self, node: Node) -> _Local | None:
        """One of the two variables of a macro that was written with one (`source`)."""
        call = node.call_expr
        if call.function not in ("key__", "value__"):
            return None
        path = self._path(call.target)
        listed = path[-1:] == ("@items",)
        if call.function == "key__":
            return _Local((*path[:-1], "@indices" if listed else "@keys"), None, None)
        return _Local((*path[:-1], "@items" if listed else "@values"), None, None)

    def _keep(self, node: Node, size: Size | None) -> None:
        if size is not None:
            self._sizes[node.id] = size

    # -------------------------------------------------------------------------------------------------------------- calls
    def _call(self, node: Node) -> int:
        call = node.call_expr
        if call.function == "dyn":
            total = _total(1, self.cost(call.args[0]))
            self._keep(node, self._size(call.args[0]))
            return total
        costs = [self.cost(one) for one in call.args]
        overloads = self._found.overloads(node)
        if not overloads:
            return 0
        target = call.target if call.HasField("target") else None
        total = 0 if target is None else self.cost(target)
        if (
            call.function == "_[_]"
        ):  # of what is not typed both are possible; what is declared knows
            overloads = [
                one for one in overloads if one == f"index_{self._sort(call.args[0])}"
            ] or overloads
        dearest, result = 0, None
        for overload in overloads:
            price, size = self._price(node, overload, target, costs)
            dearest = max(dearest, price)
            result = size if result is None else result if size is None else _either(result, size)
            result = self._indexed(node, overload, result)
            if result is None:
                result = self._size(node)
        self._keep(node, result)
        return _total(total, dearest)

    def _indexed(self, node: Node, overload: str, result: Size | None) -> Size | None:
        if overload not in ("index_list", "index_map"):
            return result
        first = node.call_expr.args[0]
        part = "@items" if overload == "index_list" else "@values"
        self._paths[node.id] = (*self._path(first), part)
        inside = self._inside(first)
        return None if inside is None else inside.value

    def _price(self, node: Node, overload: str, target: Node | None, costs: list[int]) -> _Answer:
        """(units with those of the arguments, size of the answer)."""
        arguments = list(node.call_expr.args)
        if overload in ("logical_and", "logical_or"):
            return _total(*costs), None
        if overload == "conditional":
            size = _either(self._known(arguments[1]), self._known(arguments[2]))
            inside = _mixed(self._inside(arguments[1]), self._inside(arguments[2]))
            if inside is not None:
                self._entries[node.id] = inside
            return _total(costs[0], max(costs[1:])), size
        price, result = (
            self._of_kubernetes(node.call_expr.function, overload, target, arguments)
            or self._of_language(node, overload, target, arguments)
            or (1, None)
        )
        return _total(price, *costs), result

    def _of_language(
        self, node: Node, overload: str, target: Node | None, arguments: list[Node]
    ) -> _Answer | None:
        sizes = [self._known(one) for one in arguments]
        if overload in _COMPARED:
            return _priced(min(sizes[0].most, sizes[1].most), _LETTER), None
        if overload in ("add_string", "add_bytes", "add_list"):
            whole = _both(*sizes)
            inside = _mixed(self._inside(arguments[0]), self._inside(arguments[1]))
            if inside is not None:
                self._entries[node.id] = inside
            return (1 if overload == "add_list" else _priced(whole.most, _LETTER)), whole
        if overload in ("matches", "matches_string", "contains_string"):
            text, other = (sizes[0], sizes[1]) if target is None else (self._known(target), sizes[0])  # fmt: skip
            if overload == "contains_string":
                return product(_priced(text.most, _LETTER), _priced(other.most, _LETTER)), None
            return _matching(text, other), None
        if overload == "string_format" and target is not None:
            return _priced(self._known(target).most, _LETTER), None
        if len(sizes) == 1:
            return _of_one(overload, sizes[0])
        if overload == "in_list":
            return sizes[1].most, None
        return None

    def _of_kubernetes(
        self, function: str, overload: str, target: Node | None, arguments: list[Node]
    ) -> _Answer | None:
        if function in _ONE:
            return 1, None
        if function == "check":
            return _CHECK, None
        if function == "_==_":
            return self._same(*arguments)
        if target is None:
            if function in ("url", "jsonpatch.escapeKey") and len(arguments) == 1:
                size = self._known(arguments[0])
                return _priced(size.most, _LETTER), size
            return None
        return self._on_target(function, overload, target, arguments)

    def _same(self, left: Node, right: Node) -> _Answer | None:
        kinds = {self._type(left), self._type(right)}
        if len(kinds) != 1:
            return None
        kind = kinds.pop()
        if kind in ("net.IP", "net.CIDR", "kubernetes.Quantity", "kubernetes.Semver"):
            return 1, None
        if kind == "kubernetes.NamedFormat":
            return _priced(_FORMAT_LETTERS, _LETTER), None
        if kind == "kubernetes.URL":
            size = self._size(right)
            return _priced(1 if size is None else size.most, _LETTER), None
        return None

    def _on_target(  # noqa: PLR0911 - one answer for each family of functions
        self, function: str, overload: str, target: Node, arguments: list[Node]
    ) -> _Answer | None:
        size = self._known(target)
        sizes = [self._known(one) for one in arguments]
        match function:
            case "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf":
                if self._sort(target) != "list":
                    return _priced(size.most, _LETTER), None
                item, texts = self._item(target)
                return product(size.most, _total(1, _priced(item.most, _LETTER) if texts else 0)), None  # fmt: skip
            case "lowerAscii" | "upperAscii" | "substring" | "trim":
                return _priced(size.most, _LETTER), size
            case "replace":
                return _priced(size.most, 2 * _LETTER), _replaced(size, *sizes[:2])
            case "split":
                most = constant(arguments[1]) if len(arguments) > 1 else None
                parts = size.most if not isinstance(most, int) else most % (MOST + 1)
                return _priced(size.most, 2 * _LETTER), Size(0, parts)
            case "join":
                made = self._joined(target, size, sizes)
                return _priced(made.most, _LETTER), made
            case "find" | "findAll":
                return _matching(size, sizes[0]), Size(0, size.most)
            case "ip":
                return 1, None
            case "containsIP" | "containsCIDR":
                return self._contains(function, overload, sizes), None
            case "validate":
                once = _priced(sizes[0].most, _LETTER)
                return _priced(once, _FORMAT_PATTERN * _PATTERN_LETTER), None
            case "fieldSelector" | "labelSelector":
                return _total(_priced(sizes[0].most, _LETTER), 1), None
            case _:
                return None

    def _contains(self, function: str, overload: str, sizes: list[Size]) -> int:
        """Addresses have at most 16 bytes."""
        price = _priced(32, _LETTER)
        if function == "containsCIDR":
            price += _priced(16, _LETTER) + 1
        return _total(price, _priced(sizes[0].most, _LETTER) if overload.endswith("_string") else 0)

    def _item(self, target: Node) -> tuple[Size, bool]:
        """Of a list's items: their size, and whether they are texts."""
        found = self._declared((*self._path(target), "@items") if self._path(target) else ())
        kind = found.type if found else self._type(target).removeprefix("list(").removesuffix(")")
        return Size(0, found.most) if found else _UNKNOWN, kind in ("string", "bytes")

    def _joined(self, target: Node, count: Size, sizes: list[Size]) -> Size:
        item, _ = self._item(target)
        made = Size(product(count.least, item.least), product(count.most, item.most))
        if not sizes:
            return made
        between = Size(max(count.least - 1, 0), max(count.most - 1, 0))
        added = Size(product(between.least, sizes[0].least), product(between.most, sizes[0].most))
        return _both(made, added)


def _kind_of(node: Node) -> str:
    for name in ("ident", "select", "call", "list", "struct"):
        if node.HasField(f"{name}_expr"):
            return name
    return "loop" if node.HasField("comprehension_expr") else "literal"


def _written(node: Node) -> Size | None:
    """Of what is written out."""
    if node.HasField("list_expr"):
        count = len(node.list_expr.elements)
    elif node.HasField("struct_expr") and not node.struct_expr.message_name:
        count = len(node.struct_expr.entries)
    elif node.HasField("const_expr"):
        value = constant(node)
        count = len(value) if isinstance(value, (str, bytes)) else 1
    else:
        return None
    return Size(count, count)


def _binds(loop: Node) -> bool:
    """Whether it is `cel.bind`."""
    ranged = loop.iter_range.HasField("list_expr") and not loop.iter_range.list_expr.elements
    never = constant(loop.loop_condition) is False
    return ranged and never and loop.accu_var not in _HELD


def _paired(node: Node) -> Node:
    """What a macro of two variables runs over."""
    return node.call_expr.target if node.call_expr.function == "pairs__" else node


def _matching(text: Size, pattern: Size) -> int:
    return product(_priced(_total(text.most, 1), _LETTER), _priced(pattern.most, _PATTERN_LETTER))


def _of_one(overload: str, size: Size) -> _Answer | None:
    """Functions of one argument that read all of it."""
    price = _priced(size.most, _LETTER)
    match overload:
        case "starts_with_string" | "ends_with_string":
            return price, None
        case "string_to_bytes":
            return price, Size(size.least, min(size.most * 4, MOST))
        case "bytes_to_string":
            return price, Size(size.least // 4, size.most)
        case "strings_quote":
            return price, Size(_total(size.least, 2), min(size.most * 2 + 2, MOST))
        case _:
            return None


def _replaced(size: Size, what: Size, by: Size) -> Size:
    """Of a text in which something is replaced: the least as if the longest were, the most as if the shortest were."""
    most, kept_most = ceil(size.most / what.least) if what.least else _total(size.most, 1), 0
    if what.least == 0:
        kept_most = size.most
    elif by.most <= what.least:
        most, kept_most = 0, size.most
    least, kept_least = ceil(size.least / what.most) if what.most else _total(size.least, 1), 0
    if what.most == 0:
        kept_least = size.least
    elif what.most <= by.least:
        least, kept_least = 0, size.least
    return Size(
        _total(product(least, by.least), kept_least), _total(product(most, by.most), kept_most)
    )
