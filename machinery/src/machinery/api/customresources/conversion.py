"""Objects between the version in which they lie in the store and the one in which they are served.

With the conversion strategy None only apiVersion changes; with Webhook the definition's `Convert` says what the object is in the
other version, and raises `ConversionWanted` where it would have to be asked for: whoever may wait does (`server.webhooks.
conversion`), and calls again. Each version has a schema of its own all the same: what is read is pruned and filled by that of the
version it was stored in, then pruned by that of the served one; what is written is pruned by that of the storage version.
Reading is where a schema that came later meets objects of before.
"""

from typing import Any

from machinery.api.customresources.pruning import Schema, fill_object, prune_object
from machinery.api.scheme import Custom, ServedKind
from machinery.meta.resource import Document, split_api_version


class ConversionWanted(Exception):
    """An object has to be converted by a webhook first."""

    def __init__(self, source: Any, document: Document, api_version: str) -> None:
        super().__init__(f"conversion to {api_version} is to be waited for")
        self.source = source
        """The `Convert` that was asked."""
        self.document = document
        self.api_version = api_version


def outward(kind: ServedKind, document: Document) -> Document:
    """A stored object as it is served by `kind`, which is dynamic. Raises ConversionWanted."""
    document = stored(kind, document)
    return document if document["apiVersion"] == kind.api_version else _turned(kind, document)


def stored(kind: ServedKind, document: Document) -> Document:
    """A stored object by the schema of the version in which it lies."""
    version = split_api_version(document["apiVersion"])[1]
    schema = _custom(kind).schemas.get(version)
    if schema is None:
        return document
    return fill_object(schema, prune_object(schema, document, []))


def inward(kind: ServedKind, document: Document) -> Document:
    """An object of the dynamic `kind` as it is stored. Raises ConversionWanted."""
    custom = _custom(kind)
    if custom.storage_version == kind.version:
        return document
    api_version = f"{kind.group}/{custom.storage_version}"
    converted = _converted(custom, document, api_version)
    document = prune_object(_schema(custom), converted, [])
    return {**document, "apiVersion": api_version}


def between(kind: ServedKind, target: ServedKind, document: Document) -> Document:
    """An object of the one dynamic kind as one of the other, which is of the same definition. Raises ConversionWanted."""
    return document if kind.version == target.version else _turned(target, document)


def shown(kind: ServedKind, converted: Document) -> Document:
    """What a conversion has given, by the schema of `kind`."""
    document = prune_object(_custom(kind).schemas[kind.version], converted, [])
    return {**document, "apiVersion": kind.api_version}


def _turned(kind: ServedKind, document: Document) -> Document:
    return shown(kind, _converted(_custom(kind), document, kind.api_version))


def _converted(custom: Custom, document: Document, api_version: str) -> Document:
    return document if custom.convert is None else custom.convert(document, api_version)


def _schema(custom: Custom) -> Schema:
    return custom.schemas[custom.storage_version]


def _custom(kind: ServedKind) -> Custom:
    assert kind.dynamic is not None, "only kinds of definitions have several schemas"
    return kind.dynamic
