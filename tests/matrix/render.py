"""The document: cells -> docs/compatibility.md. Pure, so that the tests can hold the two files against each other."""

from collections.abc import Iterable, Mapping

from tests.matrix.record import ABSENT, FAIL, PASS, VERBS, Cell

LETTERS = {"python typed": "T", "python dynamic": "D", "kopf": "O", "all": "all"}
"""kubectl is K."""
TITLES = {"member": "a member's API server", "federation": "the federation's API server"}
TABLES = {
    "commands": ("kubectl", "Every command of kubectl's help; further lines are further checks of it."),
    "python": ("The Python client", "What programs use beside the verbs above."),
    "kopf": ("kopf", "An operator of a custom kind with a status, a scale and columns."),
    "helm": ("Helm", "A chart of twelve kinds, with a CRD, a hook and a lookup, through its life."),
    "checklist": ("The checklist", "Items of the API checklist that no client's verb shows, by plain HTTP."),
}  # fmt: skip
HEAD = """# Compatibility

What clients of Kubernetes do here, found out by doing it: `make matrix` starts a fleet, asks for every verb of every
resource with every client, and writes this page and [compatibility.json](compatibility.json) beside it. Nobody edits them.

A check passes when its effect was seen by somebody else: what was created is read with its values by plain HTTP and a watch is
told of it, a patch changes exactly what it says, a stale update is refused, a status write leaves the spec alone, what was not
selected is not deleted. An answer of 200 alone is no pass.
"""


class Reasons:
    """Numbers for the reasons of exceptions, in the order in which they come."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def number(self, why: str) -> str:
        return f"[{self.known.setdefault(why, len(self.known) + 1)}]"


def render(versions: Mapping[str, str], cells: Iterable[Cell]) -> str:
    """The whole page."""
    cells = list(cells)
    reasons = Reasons()
    parts = [HEAD, _summary(versions, cells)]
    for server in TITLES:
        parts.append(_resources(server, [c for c in cells if c.table == "resources" and c.server == server], reasons))  # fmt: skip
    for table, (title, about) in TABLES.items():
        parts.append(_items(title, about, [c for c in cells if c.table == table], reasons))
    parts.append(_reasons(reasons))
    return "\n".join(part for part in parts if part)


def _summary(versions: Mapping[str, str], cells: list[Cell]) -> str:
    lines = ["Clients: " + ", ".join(f"{name} {version}" for name, version in sorted(versions.items()) if name != "server")]  # fmt: skip
    lines[0] = lines[0].replace("kubernetes ", "the Python client ") + "."
    lines += [f"Server: {versions.get('server', '')}.", "", "| | checks | green | exception | red |", "| --- | --- | --- | --- | --- |"]  # fmt: skip
    for level, name in (("M", "M: must"), ("S", "S: should"), ("L", "L: later")):
        some = [c for c in cells if c.level == level]
        counted = [sum(c.outcome == outcome for c in some) for outcome in (PASS, ABSENT, FAIL)]
        lines.append(f"| {name} | {len(some)} | {counted[0]} | {counted[1]} | {counted[2]} |")
    red = [c for c in cells if c.outcome == FAIL]
    if red:
        lines += ["", "Red:", ""]
        lines += [f"- {c.level}, {c.server}: {c.item}, {c.verb} [{c.client}]: {_plain(c.told)}" for c in red]  # fmt: skip
    else:
        lines += ["", "Nothing is red."]
    return "\n".join(lines) + "\n"


def _plain(told: str) -> str:
    return told.replace("|", "/").replace("\n", " ").replace("<", "(").replace(">", ")")[:240]


def _letter(client: str) -> str:
    return LETTERS.get(client, "K" if client.startswith("kubectl") else client)


def _resources(server: str, cells: list[Cell], reasons: Reasons) -> str:
    if not cells:
        return ""
    lines = [
        f"## Resources, {TITLES[server]}", "",
        "K kubectl, T the typed Python client, D the dynamic one, O kopf; struck out: red; a number: the reason of an exception.",
        "", "| resource | " + " | ".join(VERBS) + " |", "| --- |" + " --- |" * len(VERBS),
    ]  # fmt: skip
    rows: dict[str, dict[str, list[Cell]]] = {}
    for cell in cells:
        rows.setdefault(cell.item, {}).setdefault(cell.verb, []).append(cell)
    for item, verbs in sorted(rows.items(), key=lambda row: _group(row[0])):
        if "served" in verbs:
            (cell,) = verbs["served"]
            told = (
                "~~not served~~"
                if cell.outcome == FAIL
                else f"not served {reasons.number(cell.told)}"
            )
            lines.append(f"| {item} | {told} |" + " |" * (len(VERBS) - 1))
            continue
        shown = [_clients(verbs.get(verb, []), reasons) for verb in VERBS]
        lines.append(f"| {item} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def _group(item: str) -> tuple[str, str]:
    version, plural = item.split()
    return (version if "/" in version else "", plural)


def _clients(cells: list[Cell], reasons: Reasons) -> str:
    """`K T D`, exceptions with their numbers after it."""
    shown = []
    for cell in sorted(cells, key=lambda c: "KTDO".find(_letter(c.client))):
        letter = _letter(cell.client)
        if cell.outcome == PASS:
            shown.append(letter)
        elif cell.outcome == FAIL:
            shown.append(f"~~{letter}~~")
        else:
            shown.append(f"{letter}{reasons.number(cell.told)}")
    return " ".join(shown)


def _items(title: str, about: str, cells: list[Cell], reasons: Reasons) -> str:
    if not cells:
        return ""
    columns = sorted({(c.server, c.client) for c in cells}, key=lambda c: (c[0] != "member", c[1]))
    lines = [f"## {title}", "", about, ""]
    lines.append("| | | " + " | ".join(f"{server}: {client}" for server, client in columns) + " |")
    lines.append("| --- | --- |" + " --- |" * len(columns))
    rows: dict[tuple[str, str], dict[tuple[str, str], Cell]] = {}
    for cell in cells:
        rows.setdefault((cell.item, cell.verb), {})[cell.server, cell.client] = cell
    for (item, verb), found in sorted(rows.items()):
        name = item if verb == "works" else f"{item}: {verb}"
        level = next(iter(found.values())).level
        shown = [_mark(found.get(column), reasons) for column in columns]
        lines.append(f"| {name.replace('|', '/')} | {level} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def _mark(cell: Cell | None, reasons: Reasons) -> str:
    if cell is None:
        return ""
    if cell.outcome == ABSENT:
        return reasons.number(cell.told)
    return "yes" if cell.outcome == PASS else "~~red~~"


def _reasons(reasons: Reasons) -> str:
    if not reasons.known:
        return ""
    lines = ["## Exceptions", ""]
    lines += [f"{number}. {_plain(why)}" for why, number in reasons.known.items()]
    return "\n".join(lines) + "\n"
