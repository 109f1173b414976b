"""One policy's overriders on one object, always in the same order whatever the order in the policy.

Images, commands, arguments, labels, annotations, text inside fields, and at last the plain patch, which so sees all the others.
A kind without containers has no images or commands to override; that is no error, as in Karmada.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from federation.propagation.overrides import images, steps, texts
from federation.propagation.overrides.errors import OverrideError
from machinery.api.fleet.policy import (
    CommandArgsOverrider,
    FieldOverrider,
    ImageOverrider,
    LabelAnnotationOverrider,
    Overriders,
    TextPatch,
)
from machinery.meta.resource import Document

_IN_TEMPLATE = frozenset(("ReplicaSet", "Deployment", "DaemonSet", "StatefulSet", "Job"))


def overridden(document: Document, overriders: Overriders) -> Document:
    """The object with all overriders applied; the input is left as it is. Raises OverrideError."""
    for image in overriders.image_overrider:
        document = _with_image(document, image)
    document = _with_words(document, "command", overriders.command_overrider)
    document = _with_words(document, "args", overriders.args_overrider)
    document = _with_marks(document, "labels", overriders.labels_overrider)
    document = _with_marks(document, "annotations", overriders.annotations_overrider)
    for field in overriders.field_overrider:
        document = _with_text(document, field)
    plain = [(one.operator, one.path, one.value) for one in overriders.plaintext]
    changed = steps.apply(document, plain)
    if not isinstance(changed, dict) or not changed.get("kind"):
        raise OverrideError(f"Object 'Kind' is missing in '{texts.compact(changed)}'")
    return changed


def _containers_path(document: Document) -> str:
    """Where the containers stand; empty for kinds without."""
    kind = document.get("kind")
    if kind == "Pod":
        return "/spec/containers"
    return "/spec/template/spec/containers" if kind in _IN_TEMPLATE else ""


def _containers(document: Document) -> Iterator[tuple[str, Document]]:
    """Each container with the pointer to it. Init containers are none of them."""
    path = _containers_path(document)
    here: Any = document
    for token in steps.tokens(path):
        here = here.get(token) if isinstance(here, dict) else None
    if path and isinstance(here, list):
        for index, container in enumerate(here):
            yield f"{path}/{index}", container


# -------------------------------------------------------------------------------------------------------------- images
def _with_image(document: Document, overrider: ImageOverrider) -> Document:
    if overrider.predicate is not None and overrider.predicate.path:
        path = overrider.predicate.path
        return _with_image_at(document, path, steps.resolve(document, path), overrider)
    for path, container in list(_containers(document)):
        document = _with_image_at(document, f"{path}/image", container.get("image", ""), overrider)
    return document


def _with_image_at(document: Document, path: str, held: Any, overrider: ImageOverrider) -> Document:
    if not isinstance(held, str):
        raise OverrideError(f"the value at {path} is no image: it is not a string")
    image = images.changed(
        images.parse(held), overrider.component, overrider.operator, overrider.value
    )
    return _set(document, path, str(image))


def _set(document: Document, path: str, value: Any) -> Document:
    changed: Document = steps.apply(document, [("add", path, value)])
    return changed


def _put(document: Document, path: str, value: Any) -> Document:
    changed: Document = steps.apply(document, [("replace", path, value)])
    return changed


# ------------------------------------------------------------------------------------------- commands, labels, annotations
def _with_words(
    document: Document, field: str, overriders: Iterable[CommandArgsOverrider]
) -> Document:
    for overrider in overriders:
        for path, container in list(_containers(document)):
            if container.get("name") != overrider.container_name:
                continue
            held = list(container.get(field) or ())
            if overrider.operator == "add":
                held += overrider.value
            else:
                held = [word for word in held if word not in overrider.value]
            document = _set(document, f"{path}/{field}", held)
    return document


def _with_marks(
    document: Document, field: str, overriders: Iterable[LabelAnnotationOverrider]
) -> Document:
    """`replace` changes what is there, `remove` goes by the key alone."""
    for overrider in overriders:
        metadata = document.get("metadata") or {}
        held = dict(metadata.get(field) or {})
        for key, value in overrider.value.items():
            if overrider.operator == "remove":
                held.pop(key, None)
            elif overrider.operator == "add" or key in held:
                held[key] = value
        document = document | {"metadata": metadata | {field: held}}
    return document


# ---------------------------------------------------------------------------------------------------- text inside fields
def _with_text(document: Document, overrider: FieldOverrider) -> Document:
    held = steps.resolve(document, overrider.field_path)
    if not isinstance(held, str):
        raise OverrideError(f"the value at {overrider.field_path} is not a string")
    change: Callable[[str, Iterable[steps.Step]], str]
    patches: tuple[TextPatch, ...]
    change, patches = texts.yaml_changed, overrider.yaml
    if overrider.json:
        change, patches = texts.json_changed, overrider.json
    if not patches:
        return document
    text = change(held, [(one.operator, one.sub_path, one.value) for one in patches])
    return _put(document, overrider.field_path, text)
