"""nftables in memory: takes the commands that `layout` and `plan` write, and refuses what the kernel would refuse.

It knows the objects and their elements, not packets: a map that is missing, an element added twice with two values or
deleted twice, a map deleted under a rule, a chain deleted while it is jumped to. Any other command is an error, so a
new kind of command cannot pass unseen.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from cluster_agent.node.proxy.layout import TABLE, Transaction
from cluster_agent.node.proxy.nft import Form, NftError, Row

_COMMAND = re.compile(
    r"(add|delete|flush) (table|map|set|chain|rule|element) (ip6?|inet) (\S+)(?: (\S+))?(?: (.*))?"
)
_USES = re.compile(r"@(\S+)|(?:jump|goto) (\S+)")


@dataclass(slots=True)
class Holder:
    """A map or a set."""

    kind: str
    spec: str
    elements: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Table:
    """One table."""

    holders: dict[str, Holder] = field(default_factory=dict)
    chains: dict[str, tuple[str, list[str]]] = field(default_factory=dict)

    def copy(self) -> "Table":
        """For undoing a transaction."""
        holders = {n: Holder(h.kind, h.spec, dict(h.elements)) for n, h in self.holders.items()}
        return Table(holders, {n: (hook, list(rules)) for n, (hook, rules) in self.chains.items()})

    def used(self) -> set[str]:
        """Names that a rule or an element refers to."""
        rules = [rule for _, rules in self.chains.values() for rule in rules]
        verdicts = {v for h in self.holders.values() for v in h.elements.values() if "goto" in v}
        return {
            name for text in (*rules, *verdicts) for pair in _USES.findall(text) for name in pair
        }


class MemoryNft:
    """The twin of `nft.KernelNft`."""

    def __init__(self, table: str = TABLE) -> None:
        self._table = table
        self.tables: dict[tuple[str, str], Table] = {}
        self.applied: list[Transaction] = []
        self.refuse_next: str = ""
        """If set, the next transaction fails with these words."""

    # ------------------------------------------------------------------------------------------------------- door
    def apply(self, transaction: Transaction) -> None:
        if self.refuse_next:
            words, self.refuse_next = self.refuse_next, ""
            raise NftError(words)
        before = {place: table.copy() for place, table in self.tables.items()}
        try:
            for command in transaction:
                self._command(command)
        except NftError:
            self.tables = before
            raise
        self.applied.append(transaction)

    def form(self, family: str) -> Form:
        table = self.tables.get((family, self._table))
        if table is None:
            return Form()
        objects = [(holder.kind, name) for name, holder in table.holders.items()]
        objects += [("chain", name) for name in table.chains]
        return Form(tuple(objects), repr(table.chains))

    def clients(self) -> list[Row]:
        return self.elements("ip", "affinity")

    def elements(self, family: str, name: str) -> list[Row]:
        """Beyond the door: what any map or set holds."""
        table = self.tables.get((family, self._table), Table())
        if name not in table.holders:
            raise NftError("No such file or directory")
        items = table.holders[name].elements.items()
        return [(tuple(k.split(" . ")), tuple(v.split(" . ")) if v else ()) for k, v in items]

    # --------------------------------------------------------------------------------------------------- commands
    def _command(self, command: str) -> None:
        match = _COMMAND.fullmatch(command)
        if match is None:
            raise NftError(f"syntax error: {command[:80]}")
        verb, what, family, table_name, name, rest = match.groups(default="")
        place = (family, table_name)
        if what == "table":
            if verb == "add":
                self.tables.setdefault(place, Table())
            elif self.tables.pop(place, None) is None:
                raise NftError(f"No such file or directory: {command}")
            return
        if place not in self.tables:
            raise NftError(f"No such file or directory: {command[:80]}")
        doers: dict[tuple[str, str], Callable[[Table, str, str], None]] = {
            ("add", "map"): lambda t, n, r: _add_holder(t, "map", n, r),
            ("add", "set"): lambda t, n, r: _add_holder(t, "set", n, r),
            ("delete", "map"): _delete_holder,
            ("delete", "set"): _delete_holder,
            ("add", "chain"): _add_chain,
            ("flush", "chain"): lambda t, n, _: _chain(t, n).clear(),
            ("delete", "chain"): _delete_chain,
            ("add", "rule"): _add_rule,
            ("add", "element"): _add_elements,
            ("delete", "element"): _delete_elements,
        }
        if (verb, what) not in doers:
            raise NftError(f"syntax error: {command[:80]}")
        doers[verb, what](self.tables[place], name, rest)


def _holder(table: Table, name: str) -> Holder:
    if name not in table.holders:
        raise NftError(f"No such file or directory: {name}")
    return table.holders[name]


def _chain(table: Table, name: str) -> list[str]:
    if name not in table.chains:
        raise NftError(f"No such file or directory: {name}")
    return table.chains[name][1]


def _add_holder(table: Table, kind: str, name: str, spec: str) -> None:
    held = table.holders.setdefault(name, Holder(kind, spec))
    if (held.kind, held.spec) != (kind, spec):
        raise NftError(f"File exists: {name}")


def _delete_holder(table: Table, name: str, _: str) -> None:
    _holder(table, name)
    if name in table.used():
        raise NftError(f"Device or resource busy: {name}")
    del table.holders[name]


def _add_chain(table: Table, name: str, hook: str) -> None:
    _ = table.chains.setdefault(name, (hook, []))


def _delete_chain(table: Table, name: str, _: str) -> None:
    if _chain(table, name) or name in table.used():
        raise NftError(f"Device or resource busy: {name}")
    del table.chains[name]


def _add_rule(table: Table, name: str, rule: str) -> None:
    for holder, target in _USES.findall(rule):
        if (holder and holder not in table.holders) or (target and target not in table.chains):
            raise NftError(f"No such file or directory: {holder or target}")
    _chain(table, name).append(rule)


def _parse(text: str) -> list[tuple[str, str]]:
    inner = text.removeprefix("{ ").removesuffix(" }")
    pairs = [item.partition(" : ") for item in inner.split(" , ")]
    return [(re.sub(r" timeout \S+", "", key), value) for key, _, value in pairs]


def _add_elements(table: Table, name: str, text: str) -> None:
    holder = _holder(table, name)
    for key, value in _parse(text):
        if (holder.kind == "map") != bool(value):
            raise NftError(f"Invalid argument: {name} {key} : {value}")
        chain = value.partition("goto ")[2]
        if chain and chain not in table.chains:
            raise NftError(f"No such file or directory: {chain}")
        if holder.elements.setdefault(key, value) != value:
            raise NftError(f"File exists: {name} {key}")


def _delete_elements(table: Table, name: str, text: str) -> None:
    holder = _holder(table, name)
    for key, _ in _parse(text):
        if key not in holder.elements:
            raise NftError(f"No such file or directory: {name} {key}")
        del holder.elements[key]
