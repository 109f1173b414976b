"""The parameters that a binding names: objects of the policy's `paramKind`, as they are committed."""

from collections.abc import Iterator
from typing import Final

from machinery.api.scheme import Scheme, ServedKind
from machinery.meta.resource import Document
from machinery.meta.selectors import SelectorError, from_object
from machinery.server import codec, faces
from machinery.server.cache import WatchCache
from machinery.store.interface import Store

PARAMS_MAX: Final = 1000
"""Of one binding by selector: a policy is judged with each of them."""


class Misconfigured(Exception):
    """A policy or binding that cannot be asked; the failure policy decides. The message is upstream's."""


class Params:
    """Looks them up."""

    def __init__(self, scheme: Scheme, store: Store, cache: WatchCache) -> None:
        self._scheme, self._store, self._cache = scheme, store, cache

    def kind(self, wanted: Document) -> ServedKind:
        """The kind of parameters. Raises Misconfigured where it is not served."""
        api_version, name = wanted.get("apiVersion", ""), wanted.get("kind", "")
        group, _, version = api_version.rpartition("/")
        found = self._scheme.by_gvk(group, version, name)
        if found is None or not found.storable:
            raise Misconfigured(
                f"failed to find resource referenced by paramKind: '{group}/{version}, Kind={name}'"
            )
        return found

    def of(self, kind: ServedKind, ref: Document | None, namespace: str) -> list[Document | None]:
        """The objects that the binding names; `[None]` where it names none at all. Raises Misconfigured."""
        if ref is None:
            return [None]
        given = ref.get("namespace") or ""
        if kind.namespaced:
            given = given or namespace
            if not given:
                raise Misconfigured(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                )
        elif given:
            raise Misconfigured(
                "paramRef.namespace must not be provided for a cluster-scoped `paramKind`"
            )
        found: list[Document | None] = list(self._found(kind, ref, given))
        if not found and ref.get("parameterNotFoundAction") == "Deny":
            raise Misconfigured(
                "no params found for policy binding with `Deny` parameterNotFoundAction"
            )
        return found

    def _found(self, kind: ServedKind, ref: Document, namespace: str) -> Iterator[Document]:
        if name := ref.get("name"):
            row = self._store.get(codec.storage_key(kind, namespace, name))
            if row is not None:
                yield _shown(kind, codec.decode(row.value, row.revision))
            return
        try:
            selector = from_object(ref.get("selector") or {})
        except SelectorError as error:
            raise Misconfigured(str(error)) from None
        cache = self._cache.of(self._scheme.stored(kind))
        for number, key in enumerate(
            key
            for key in cache.ordered(namespace)
            if selector.matches(dict(cache.entries[key].labels))
        ):
            if number >= PARAMS_MAX:
                raise Misconfigured(f"more than {PARAMS_MAX} params are selected")
            yield _shown(kind, cache.entries[key].document())


def _shown(kind: ServedKind, document: Document) -> Document:
    turn = faces.outward(kind)
    return document if turn is None else turn(document)
