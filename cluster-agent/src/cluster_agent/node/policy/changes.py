"""From one table to another, as transactions of nft. Pure.

One transaction changes everything that differs: packets are judged by the old table or by the new. Chains and sets that are
left over are emptied in it; chains are deleted afterwards (`sweep`), for before Linux 6.2 a chain still counts as used for
a moment after the element that led to it is gone.
"""

from collections.abc import Iterable, Iterator

from cluster_agent.node.policy.layout import TABLE
from cluster_agent.node.policy.model import Holder, Ruleset

FULL_NAME = f"inet {TABLE}"
ELEMENTS_A_COMMAND = 1_000
_NOTHING = Holder("", "")

Transaction = tuple[str, ...]


def load(wanted: Ruleset) -> Transaction:
    """The table from nothing, in place of whatever there is of that name."""
    remove = (f"add table {FULL_NAME}", f"delete table {FULL_NAME}")
    return (*remove, *change(Ruleset(), wanted)) if wanted.chains else remove


def change(held: Ruleset, wanted: Ruleset) -> Transaction:
    """What makes one table the other; nothing where they are equal."""
    if not wanted.chains:
        return (f"delete table {FULL_NAME}",) if held.chains else ()
    body = [*_additions(held, wanted), *_elements(held, wanted), *_leftovers(held, wanted)]
    if not held.chains:
        body.insert(0, f"add table {FULL_NAME}")
    return tuple(body)


def stale(held: Ruleset, wanted: Ruleset) -> list[str]:
    """Chains that `change` empties and leaves."""
    return [name for name in held.chains if name not in wanted.chains] if wanted.chains else []


def sweep(chains: Iterable[str]) -> Transaction:
    """Delete chains that nothing leads to."""
    return tuple(f"delete chain {FULL_NAME} {name}" for name in chains)


def _additions(held: Ruleset, wanted: Ruleset) -> Iterator[str]:
    for name, holder in wanted.holders.items():
        if name not in held.holders:
            yield f"add {holder.kind} {FULL_NAME} {name} {{ {holder.spec} ; }}"
    for name, chain in wanted.chains.items():
        if name not in held.chains:
            yield f"add chain {FULL_NAME} {name} {chain.hook}".rstrip()
    for name, chain in wanted.chains.items():
        before = held.chains.get(name)
        if before is not None and before.rules != chain.rules:
            yield f"flush chain {FULL_NAME} {name}"
    for name, chain in wanted.chains.items():
        before = held.chains.get(name)
        if before is None or before.rules != chain.rules:
            yield from (f"add rule {FULL_NAME} {name} {rule}" for rule in chain.rules)


def _elements(held: Ruleset, wanted: Ruleset) -> Iterator[str]:
    for name, holder in wanted.holders.items():
        before = held.holders.get(name, _NOTHING).elements
        if before is holder.elements:
            continue
        keys = [element.partition(" : ")[0] for element in before - holder.elements]
        yield from _command("delete", name, keys)
        yield from _command("add", name, holder.elements - before)


def _command(verb: str, name: str, elements: Iterable[str]) -> Iterator[str]:
    ordered = sorted(elements)
    for at in range(0, len(ordered), ELEMENTS_A_COMMAND):
        part = " , ".join(ordered[at : at + ELEMENTS_A_COMMAND])
        yield f"{verb} element {FULL_NAME} {name} {{ {part} }}"


def _leftovers(held: Ruleset, wanted: Ruleset) -> Iterator[str]:
    gone = [name for name in held.holders if name not in wanted.holders]
    yield from (f"flush chain {FULL_NAME} {name}" for name in stale(held, wanted))
    yield from (f"delete {held.holders[name].kind} {FULL_NAME} {name}" for name in gone)
