r"""Protobuf bodies, read only: typed Go clients send nothing else for built kinds, and take JSON back.

The envelope is `k8s\0` and a runtime.Unknown that names apiVersion and kind; the object follows in the fields of its Go
struct. Decoding is driven by a table of field numbers, so that it needs no protobuf library. What the wire cannot say, the
table does: gogo writes every scalar that is no pointer even when it is zero, so zeros are dropped unless the field is a
pointer; some messages are inlined in JSON; Time, Quantity, IntOrString and raw JSON have forms of their own. Unknown fields
are skipped, as Go does. Limits: nothing is encoded; strings that are no UTF-8 are repaired; a message that stands twice is
not merged, the last one counts.
"""

from machinery.api.protobuf.forms import envelope
from machinery.api.protobuf.wire import Malformed
from machinery.meta.errors import BadRequest
from machinery.meta.resource import Document

__all__ = ["Malformed", "decode_envelope"]

_SUMMARY_BYTES = 30
"""How much of a body an error message shows."""


def decode_envelope(raw: bytes, expected: str = "") -> Document:
    """The object in a protobuf body, with apiVersion and kind. Raises BadRequest.

    `expected` is the kind that the endpoint takes; with it the message is the one that upstream's create handler gives.
    """
    try:
        return envelope(raw, 0)
    except Malformed as error:
        if not expected:
            raise BadRequest(str(error)) from None
        raise BadRequest(
            f"the object provided is unrecognized (must be of type {expected}):"
            f" {error} ({_summary(raw)})"
        ) from None


def _summary(raw: bytes) -> str:
    if not raw:
        return "<empty>"
    return raw[:_SUMMARY_BYTES].hex() + (" ..." if len(raw) > _SUMMARY_BYTES else "")
