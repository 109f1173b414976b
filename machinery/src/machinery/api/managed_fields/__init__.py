"""Field managers: who has set which field of an object, and server-side apply on top of that.

`update_manager` records creates, updates and patches (and those of subresources); `apply` is the apply patch. Both are pure
and path-copying: they return a new document that shares what did not change. Sets of fields are kept in their wire form
(FieldsV1), so that an ordinary write costs one comparison of two documents and a look at each entry.
"""

from machinery.api.managed_fields.applying import apply
from machinery.api.managed_fields.scale import apply_scale
from machinery.api.managed_fields.sets import FieldSet
from machinery.api.managed_fields.tracking import (
    created_fields,
    strip,
    update_manager,
    with_creator,
)

__all__ = [
    "FieldSet", "apply", "apply_scale", "created_fields", "strip", "update_manager", "with_creator",
]  # fmt: skip
