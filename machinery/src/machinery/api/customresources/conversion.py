"""Objects between the version in which they lie in the store and the one in which they are served; nothing is translated.

With the conversion strategy None only apiVersion changes. Each version has a schema of its own all the same: what is read is
pruned and filled by that of the version it was stored in, then pruned by that of the served one; what is written is pruned
by that of the storage version. Reading is where a schema that came later meets objects of before.
"""

from machinery.api.customresources.pruning import Schema, fill_object, prune_object
from machinery.api.scheme import Custom, ServedKind
from machinery.meta.resource import Document, split_api_version


def outward(kind: ServedKind, document: Document) -> Document:
    """A stored object as it is served by `kind`, which is dynamic."""
    custom = _custom(kind)
    stored = split_api_version(document["apiVersion"])[1]
    if (schema := custom.schemas.get(stored)) is not None:
        document = fill_object(schema, prune_object(schema, document, []))
    if stored == kind.version:
        return document
    document = prune_object(custom.schemas[kind.version], document, [])
    return {**document, "apiVersion": kind.api_version}


def inward(kind: ServedKind, document: Document) -> Document:
    """An object of the dynamic `kind` as it is stored."""
    custom = _custom(kind)
    if custom.storage_version == kind.version:
        return document
    document = prune_object(_schema(custom), document, [])
    return {**document, "apiVersion": f"{kind.group}/{custom.storage_version}"}


def between(_: ServedKind, target: ServedKind, document: Document) -> Document:
    """An object of the one dynamic kind as one of the other, which is of the same definition."""
    return outward(target, document)


def _schema(custom: Custom) -> Schema:
    return custom.schemas[custom.storage_version]


def _custom(kind: ServedKind) -> Custom:
    assert kind.dynamic is not None, "only kinds of definitions have several schemas"
    return kind.dynamic
