"""What users were told: a write that was answered stands until a user changes it, one that was not may stand or not. Pure.

Kept are the fields that users write: of Deployments replicas, image and the label `tier`, of ConfigMaps the number, of
Gadgets the size, of ClusterRoles the verb, of
Clusters the taints of operators and their figures, of FederationConfig the switch. `None` stands for an object that is not there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from federation.simulator.kinds import FIGURE_OF
from federation.simulator.workload import image_of
from machinery.meta.resource import Document, ObjectKey

Fact = tuple[str, ObjectKey, str]
"""(plural, key, field)."""
Value = str | int | None

THERE = "is there"


@dataclass(slots=True)
class Ledger:
    """Each fact with the values that it may have."""

    _may: dict[Fact, set[Value]] = field(default_factory=dict)

    def wrote(self, facts: Mapping[Fact, Value], *, sure: bool) -> None:
        """Values that were written; not `sure`: or the old ones still stand."""
        for fact, value in facts.items():
            if sure:
                self._may[fact] = {value}
            else:  # of an object that nobody knew: it may be there now, or not
                self._may.setdefault(fact, {None} if fact[2] == THERE else set()).add(value)

    def deleted(self, plural: str, key: ObjectKey, *, sure: bool) -> None:
        """The object is gone or going, with all that was said of it."""
        for fact in [f for f in self._may if f[0] == plural and f[1] == key]:
            if sure and fact[2] != THERE:
                del self._may[fact]
        self.wrote({(plural, key, THERE): None}, sure=sure)

    def emptied(self, namespace: str, *, sure: bool) -> None:
        """The namespace is deleted, with everything in it."""
        inside = {(f[0], f[1]) for f in self._may if f[1].namespace == namespace}
        for plural, key in sorted(inside):
            self.deleted(plural, key, sure=sure)

    def lost(self, objects: Mapping[str, Mapping[ObjectKey, Document]]) -> str:
        """What a user was told and that does not stand; the empty string when all does."""
        for (plural, key, name), may in sorted(self._may.items(), key=lambda item: str(item[0])):
            document = objects.get(plural, {}).get(key)
            there = {1} if name == THERE else may
            if document is None:
                if None not in self._may.get((plural, key, THERE), {None}):
                    return f"{plural} {key} was created and is not there"
                continue
            if name == THERE:
                if may == {None}:
                    return f"{plural} {key} was deleted and is there"
                continue
            value = read(plural, name, document)
            if value not in there:
                return f"{plural} {key} has {name} {value!r}, users wrote {sorted(map(repr, may))}"
        return ""


def read(plural: str, name: str, document: Document) -> Value:
    """The field of an object."""
    match plural, name:
        case "deployments", "replicas":
            return int(document["spec"].get("replicas", 1))
        case "deployments", "image":
            return image_of(document)
        case "deployments", "tier":
            return str((document["metadata"].get("labels") or {}).get("tier", ""))
        case "configmaps", "number":
            return str((document.get("data") or {}).get("number", ""))
        case "gadgets", "size":
            return int(document["spec"].get("size", 0))
        case "clusterroles", "verb":
            return str(document["rules"][0]["verbs"][0])
        case "clusters", "cost" | "carbon":
            annotations = document["metadata"].get("annotations") or {}
            return str(annotations.get(FIGURE_OF[name], ""))
        case "clusters", "taints":
            return taints_of(document["spec"].get("taints") or ())
        case "federationconfigs", "failover":
            return str((document.get("spec") or {}).get("failover", "Enabled"))
        case _:
            raise AssertionError(f"nobody writes {name} of {plural}")


def taints_of(taints: Iterable[Document]) -> str:
    """The operators' taints among all."""
    return ",".join(sorted(t["key"] for t in taints if t["key"].startswith("ubernetes.io/")))
