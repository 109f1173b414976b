"""The official Python client, typed and dynamic, as clients of the table of resources.

Typed: the generated classes (`CoreV1Api`, `AppsV1Api`, …), answers as models; kinds that the client has no class for go
through its `CustomObjectsApi`. Dynamic: `DynamicClient`, which finds kinds by discovery and knows server-side apply.
"""

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

from kubernetes import client, config, dynamic, watch
from tests.matrix.clients import JSON, MANAGER, MERGE, STRATEGIC, Events
from tests.matrix.kinds import Document, Resource
from tests.matrix.record import Absent
from tests.matrix.truth import Truth, until

TYPES = {
    JSON: "application/json-patch+json",
    MERGE: "application/merge-patch+json",
    STRATEGIC: "application/strategic-merge-patch+json",
}
APPLY = "application/apply-patch+yaml"


class Heard:
    """What a client's watch yields, read by a thread until it is closed."""

    def __init__(self, events: Callable[[], Iterator[Any]]) -> None:
        self._pairs: list[tuple[str, str]] = []
        self._error = ""
        self._thread = threading.Thread(target=self._read, args=(events,), daemon=True)
        self._thread.start()

    def _read(self, events: Callable[[], Iterator[Any]]) -> None:
        try:
            for event in events():
                raw = event["raw_object"]
                self._pairs.append((event["type"], raw["metadata"]["name"]))
        except Exception as error:
            self._error = f"{type(error).__name__}: {error}"

    def told(self, kind: str, name: str) -> None:
        until(
            lambda: (kind, name) in self._pairs,
            lambda: f"{kind} was not heard, but {self._pairs} {self._error}",
        )

    def join(self) -> None:
        self._thread.join(15)


def new_api(truth: Truth) -> client.ApiClient:
    found: client.ApiClient = config.new_client_from_config(truth.kubeconfig, context=truth.context)
    return found


def snake(kind: str) -> str:
    """`CSIStorageCapacity` -> `csi_storage_capacity`, as the generator writes it."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", kind))
    return spaced.lower()


def class_name(r: Resource) -> str:
    """`rbac.authorization.k8s.io/v1` -> `RbacAuthorizationV1Api`."""
    group = r.group.removesuffix(".k8s.io") or "core"
    return "".join(part.capitalize() for part in group.split(".")) + r.version.capitalize() + "Api"


class Typed:
    """The generated classes."""

    label = "python typed"

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.api = new_api(truth)
        self.custom = client.CustomObjectsApi(self.api)

    def __enter__(self) -> "Typed":
        return self

    def __exit__(self, *_: object) -> None:
        self.api.close()

    # ------------------------------------------------------------------------------------------------ which function
    def known(self, r: Resource) -> bool:
        """Whether the client has a class for it."""
        return hasattr(
            getattr(client, class_name(r), None), f"list{self._scope(r)}_{snake(r.kind)}"
        )

    @staticmethod
    def _scope(r: Resource) -> str:
        return "_namespaced" if r.namespaced else ""

    def call(self, r: Resource, verb: str, namespace: str, name: str = "", suffix: str = "", **given: Any) -> Any:  # fmt: skip
        """`verb` as the functions begin: create, read, list, replace, patch, delete, delete_collection."""
        words = [name] if name else []
        if self.known(r):
            owner = getattr(client, class_name(r))(self.api)
            function = getattr(owner, f"{verb}{self._scope(r)}_{snake(r.kind)}{suffix}")
            return function(*words, *([namespace] if r.namespaced else []), **given)
        verb = {"read": "get"}.get(verb, verb)
        middle = "namespaced" if r.namespaced else "cluster"
        function = getattr(self.custom, f"{verb}_{middle}_custom_object{suffix}")
        where = [r.group, r.version, *([namespace] if r.namespaced else []), r.plural]
        return function(*where, *words, **given)

    def plain(self, found: Any) -> Document:
        """As it is sent back; the client writes times with an offset, which is undone."""
        text = json.dumps(self.api.sanitize_for_serialization(found))
        document: Document = json.loads(re.sub(r"(T[0-9:.]+)[+]00:00\"", r'\1Z"', text))
        return document

    # ------------------------------------------------------------------------------------------------ verbs
    def create(self, r: Resource, document: Document) -> Document:
        return self.plain(self.call(r, "create", _of(document), body=document))

    def get(self, r: Resource, namespace: str, name: str) -> Document:
        return self.plain(self.call(r, "read", namespace, name))

    def names(self, r: Resource, namespace: str, selector: str) -> list[str]:
        found = self.plain(self.call(r, "list", namespace, label_selector=selector))
        return [item["metadata"]["name"] for item in found["items"]]

    @contextlib.contextmanager
    def watching(self, r: Resource, namespace: str, selector: str) -> Iterator[Events]:
        api = Typed(self.truth)  # a connection of its own
        stream = watch.Watch()

        def events() -> Iterator[Any]:
            def listing(**given: Any) -> Any:
                return api.call(r, "list", namespace, **given)

            listing.__doc__ = f":return: {r.kind}List\n" if api.known(r) else ":return: object\n"
            yield from stream.stream(listing, label_selector=selector, timeout_seconds=60)

        heard = Heard(events)
        try:
            yield heard
        finally:
            stream.stop()
            api.api.close()

    def replace(self, r: Resource, document: Document) -> Document:
        name = document["metadata"]["name"]
        return self.plain(self.call(r, "replace", _of(document), name, body=document))

    def patch(self, r: Resource, namespace: str, name: str, kind: str, body: Any, subresource: str = "") -> None:  # fmt: skip
        if kind == STRATEGIC and not self.known(r):
            raise Absent("CustomObjectsApi has no strategic merge patch")
        suffix = f"_{subresource}" if subresource else ""
        self.call(r, "patch", namespace, name, suffix, body=body, _content_type=TYPES[kind])

    def apply(self, r: Resource, document: Document) -> None:
        self.call(
            r, "patch", _of(document), document["metadata"]["name"], body=document, field_manager=MANAGER,
            force=False, _content_type=APPLY,
        )  # fmt: skip

    def scale(self, r: Resource, namespace: str, name: str, replicas: int) -> None:
        before = self.plain(self.call(r, "read", namespace, name, "_scale"))
        before["spec"]["replicas"] = replicas
        self.call(r, "replace", namespace, name, "_scale", body=before)

    def delete(self, r: Resource, namespace: str, name: str) -> None:
        self.call(r, "delete", namespace, name)

    def delete_collection(self, r: Resource, namespace: str, selector: str) -> None:
        self.call(r, "delete_collection", namespace, label_selector=selector)


class Dynamic:
    """The dynamic client."""

    label = "python dynamic"

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.api = new_api(truth)
        self.client = dynamic.DynamicClient(self.api)

    def __enter__(self) -> "Dynamic":
        return self

    def __exit__(self, *_: object) -> None:
        self.api.close()

    def of(self, r: Resource) -> Any:
        return self.client.resources.get(api_version=r.api_version, kind=r.kind, name=r.plural)

    def create(self, r: Resource, document: Document) -> Document:
        return _plain(self.of(r).create(body=document, namespace=_ns(r, _of(document))))

    def get(self, r: Resource, namespace: str, name: str) -> Document:
        return _plain(self.of(r).get(name=name, namespace=_ns(r, namespace)))

    def names(self, r: Resource, namespace: str, selector: str) -> list[str]:
        found = self.of(r).get(namespace=_ns(r, namespace), label_selector=selector)
        return [item.metadata.name for item in found.items]

    @contextlib.contextmanager
    def watching(self, r: Resource, namespace: str, selector: str) -> Iterator[Events]:
        other = Dynamic(self.truth)
        stream = watch.Watch()

        def events() -> Iterator[Any]:
            yield from other.client.watch(
                other.of(r), namespace=_ns(r, namespace), label_selector=selector, timeout=60, watcher=stream
            )  # fmt: skip

        heard = Heard(events)
        try:
            yield heard
        finally:
            stream.stop()
            other.api.close()

    def replace(self, r: Resource, document: Document) -> Document:
        return _plain(self.of(r).replace(body=document, namespace=_ns(r, _of(document))))

    def patch(self, r: Resource, namespace: str, name: str, kind: str, body: Any, subresource: str = "") -> None:  # fmt: skip
        of = self.of(r)
        target = of.subresources[subresource] if subresource else of
        target.patch(body=body, name=name, namespace=_ns(r, namespace), content_type=TYPES[kind])

    def apply(self, r: Resource, document: Document) -> None:
        self.of(r).server_side_apply(
            body=document, name=document["metadata"]["name"], namespace=_ns(r, _of(document)), field_manager=MANAGER
        )  # fmt: skip

    def scale(self, r: Resource, namespace: str, name: str, replicas: int) -> None:
        scale = self.of(r).subresources["scale"]
        body = {"spec": {"replicas": replicas}}
        scale.patch(body=body, name=name, namespace=_ns(r, namespace), content_type=TYPES[MERGE])

    def delete(self, r: Resource, namespace: str, name: str) -> None:
        self.of(r).delete(name=name, namespace=_ns(r, namespace), body={})

    def delete_collection(self, r: Resource, namespace: str, selector: str) -> None:
        self.of(r).delete(namespace=_ns(r, namespace), label_selector=selector, body={})


def _plain(found: Any) -> Document:
    document: Document = found.to_dict()
    return document


def _of(document: Document) -> str:
    namespace: str = document["metadata"].get("namespace", "")
    return namespace


def _ns(r: Resource, namespace: str) -> str | None:
    return namespace if r.namespaced else None
