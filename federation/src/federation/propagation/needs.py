"""What objects refer to: by what is built in for their kind, or by a user's script.

A script is asked once for each version of an object. While it fails, what it said last of the object counts, so that a mistake
in a script takes nothing away from members.
"""

from collections.abc import Callable, Iterator

from federation.propagation import customized, interpreter
from federation.propagation.customized import Customizations, Followed, InterpretationFailed
from federation.propagation.templates import subject
from machinery.api.fleet.interpretation import DEPENDENCY, ResourceInterpreterCustomization
from machinery.client.informer import Informer
from machinery.controller.action import Emit
from machinery.meta.resource import Document, ObjectKey, Resource, document_key
from machinery.scripts.customizations import Kind

Needed = dict[str, set[ObjectKey]]
"""Objects by kind."""


_looked: list[tuple[Document, Needed]] = []
"""The document that was looked through last, which nobody changes, and what it refers to: each kind that may follow it asks."""


def referred_to(document: Document) -> Needed:
    """What the object refers to where no script says it, by kind. Not to be changed."""
    if _looked and _looked[0][0] is document:
        return _looked[0][1]
    found = interpreter.dependencies(document)
    _looked[:] = [(document, found)]
    return found


class Needs:
    """Of all kinds that refer to others."""

    def __init__(self, scripts: Followed, say: Callable[[Emit], None]) -> None:
        """`say` hears of scripts that fail."""
        self._scripts, self._say = scripts, say
        self._dependants: dict[Kind, Informer[Document]] = {}
        self._answers: dict[str, tuple[Customizations, str, Needed]] = {}
        """By uid: who said it, of which version, and what."""

    def add(self, resource: Resource[Document], informer: Informer[Document]) -> None:
        """A kind whose objects may refer to others."""
        self._dependants[resource.api_version, resource.kind] = informer
        informer.on_change(self._forget)

    def scripted(self, document: Document) -> bool:
        """Whether a script is asked of the object, and not what is built in."""
        return self._scripts().answers(document, DEPENDENCY)

    def of(self, document: Document) -> Needed:
        """What the object refers to."""
        scripts = self._scripts()
        if not scripts.answers(document, DEPENDENCY):
            return referred_to(document)
        uid, version = document["metadata"]["uid"], document["metadata"]["resourceVersion"]
        held = self._answers.get(uid)
        if held is not None and held[0] is scripts and held[1] == version:
            return held[2]
        try:
            found = customized.dependencies(scripts, document)
        except InterpretationFailed as error:
            self._say(_complaint(document, str(error)))
            found = held[2] if held is not None else {}
        self._answers[uid] = (scripts, version, found)
        return found

    def needing(self, kind: str, key: ObjectKey) -> Iterator[Document]:
        """Objects of which a script says that they refer to this one."""
        for name in sorted(self._scripts().kinds(DEPENDENCY)):
            informer = self._dependants.get(name)
            for one in informer.list(key.namespace) if informer is not None else ():
                if key in self.of(one).get(kind, ()):
                    yield one

    def keys(self, kind: str) -> Callable[[Document], list[ObjectKey]]:
        """What a dependant refers to, of one kind."""
        return lambda dependant: sorted(self.of(dependant).get(kind, ()))

    def spoken_of(self, kind: str) -> Callable[[ResourceInterpreterCustomization], list[ObjectKey]]:
        """What objects of a kind refer to, by whoever said it and whoever says it now, where users say something else."""

        def keys(one: ResourceInterpreterCustomization) -> list[ObjectKey]:
            informer = self._dependants.get(customized.target(one))
            found: set[ObjectKey] = set()
            for document in informer.list() if informer is not None else ():
                before = self._answers.get(document["metadata"]["uid"])
                found.update(before[2].get(kind, ()) if before is not None else ())
                found.update(interpreter.dependencies(document)[kind])
                found.update(self.of(document).get(kind, ()))
            return sorted(found)

        return keys

    def _forget(self, old: Document | None, new: Document | None) -> None:
        if new is None and old is not None:
            self._answers.pop(old["metadata"]["uid"], None)


def _complaint(document: Document, why: str) -> Emit:
    key, uid = document_key(document), document["metadata"]["uid"]
    return Emit(subject(document), key, uid, "Warning", "GetDependenciesFailed", why)
