"""The types that rules of one schema are checked with: one environment for all nodes, as each is dear to make (50 ms).

`self` has another type at each node, so a rule's `self` and `oldSelf` become variables of that type in it.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from machinery.api.expressions import compiling
from machinery.api.expressions.checked import Checked
from machinery.api.expressions.compiling import CompileFault, Program, Scope
from machinery.api.expressions.declared import EMBEDDED, Declarations, Declared
from machinery.api.expressions.records import Records
from machinery.api.expressions.source import escaped

Schema = Mapping[str, Any]
RULES: Final = "x-kubernetes-validations"
_OPTIONAL: Final = (
    "cel.bind(oldSelf, size(earlier) > 0 ? optional.of(earlier[0]) : optional.none(), {})"
)
"""How a rule gets an optional oldSelf out of the list of its old values, which has one or none: none can be given."""


class Typed:
    """One schema with rules in it. `nodes` says what each node that has some declares, by its path in the schema."""

    def __init__(self, schema: Schema) -> None:
        self._declarations = Declarations()
        self.nodes: dict[str, Declared | None] = {}
        self._walk(schema, "", self._declarations.of(schema, root=True))
        found = [one for one in self.nodes.values() if one is not None]
        self._numbers = {kind: number for number, kind in enumerate(dict.fromkeys(one.type for one in found))}  # fmt: skip
        self._scope = self._made()
        self._programs: dict[tuple[int, bool, str], Program] = {}
        self._checked: dict[tuple[int, bool, str], Checked] = {}

    def _walk(self, schema: Schema, path: str, found: Declared | None) -> None:
        if schema.get(RULES):
            self.nodes[path] = found
        for where, part, name in parts(schema):
            inside = None if found is None else found.at((name,))
            if inside is None and has_rules(part):
                inside = self._declarations.of(part, root=bool(part.get(EMBEDDED)))
            self._walk(part, path + where, inside)

    def _made(self) -> Scope:
        records = self._declarations.records
        variables = []
        for kind, number in self._numbers.items():
            variables.append((f"self__{number}", kind))
            variables.append((f"oldSelf__{number}", kind))
            variables.append((f"perhaps__{number}", f"optional_type<{kind}>"))
            variables.append((f"earlier__{number}", f"list<{kind}>"))
        return Scope(tuple(variables), records=Records(records) if records else None)

    @property
    def vague(self) -> bool:
        """Whether there are fields whose types records cannot say."""
        fields = self._declarations.records.values()
        return any(kind.count("<") > 1 for one in fields for kind in one.values())

    def program(self, node: Declared, text: str, *, optional: bool = False) -> Program:
        """The same to run, with what is `given`. Raises CompileFault."""
        number = self._numbers[node.type]
        key = (number, optional, text)
        if (found := self._programs.get(key)) is None:
            renamed = [("self", f"self__{number}")]
            if optional:
                renamed.append(("earlier", f"earlier__{number}"))
                written = _OPTIONAL.format(text)
            else:
                renamed.append(("oldSelf", f"oldSelf__{number}"))
                written = text
            scope = self._scope._replace(renamed=tuple(renamed))
            found = self._programs[key] = Program(written, compiling.check(scope, written), ())
        return found

    def given(
        self, node: Declared, value: Any, *old: Any, optional: bool = False
    ) -> dict[str, Any]:
        """What a program runs with; `old` is there or not."""
        number = self._numbers[node.type]
        out = {f"self__{number}": value}
        if optional:
            out[f"earlier__{number}"] = list(old)
        elif old:
            out[f"oldSelf__{number}"] = old[0]
        return out

    def check(self, node: Declared, text: str, *, optional: bool = False) -> Checked:
        """An expression that stands at a node. `optional`: its oldSelf is one. Raises CompileFault."""
        number = self._numbers[node.type]
        key = (number, optional, text)
        if (found := self._checked.get(key)) is None:
            old = f"perhaps__{number}" if optional else f"oldSelf__{number}"
            renamed = (("self", f"self__{number}"), ("oldSelf", old))
            try:
                found = compiling.check(self._scope._replace(renamed=renamed), text)
            except CompileFault as error:
                raise CompileFault(self._entitled(str(error))) from None
            self._checked[key] = found
        return found

    def _entitled(self, told: str) -> str:
        for name, title in reversed(self._declarations.titles.items()):
            told = told.replace(name, title)
        return told


def uses_old(names: Iterable[str]) -> bool:
    """Whether an expression names `oldSelf`, by the variables that it names."""
    return any(name.startswith(("oldSelf__", "perhaps__")) for name in names)


def parts(schema: Schema) -> list[tuple[str, Schema, str]]:
    """(where, what, its name in a path of `Declared`) of the schemas in a schema."""
    out = []
    if isinstance(others := schema.get("additionalProperties"), Mapping):
        out.append((".additionalProperties", others, "@values"))
    for key, part in (schema.get("properties") or {}).items():
        out.append((f".properties[{key}]", part, escaped(key)))
    if isinstance(items := schema.get("items"), Mapping):
        out.append((".items", items, "@items"))
    return out


def has_rules(schema: Schema) -> bool:
    """Whether there is a rule in it."""
    return bool(schema.get(RULES)) or any(has_rules(part) for _, part, _ in parts(schema))


def typed(schema: Schema) -> Typed:
    """What is known of a schema; of the last few it is kept."""
    return _typed(orjson.dumps(schema))


@lru_cache(maxsize=16)
def _typed(raw: bytes) -> Typed:
    return Typed(orjson.loads(raw))
