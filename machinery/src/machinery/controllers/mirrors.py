"""Mirrors of other clusters' objects are nobody's business here: no controller deletes, counts or taints them."""

from machinery.meta.objectmeta import Object

MIRROR_LABEL = "ubernetes.io/cluster"


def is_mirror(item: Object) -> bool:
    """Whether the object only shows one that lives elsewhere."""
    return MIRROR_LABEL in item.metadata.labels
