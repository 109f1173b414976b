"""An object as a write or a read leaves it, and the answer when the store is away."""

from machinery.api.scheme import ServedKind
from machinery.meta import errors
from machinery.meta.resource import Document
from machinery.server import codec
from machinery.store.interface import StoreUnavailable


class Stored:
    """An object as it is in the store, or as a rehearsal would have stored it (revision 0 or the old one)."""

    __slots__ = ("created", "document", "kind", "revision", "value")

    def __init__(
        self,
        kind: ServedKind,
        value: bytes,
        revision: int,
        document: Document | None = None,
        *,
        created: bool = False,
    ) -> None:
        self.kind = kind
        self.value = value
        self.revision = revision
        self.document = document
        self.created = created

    def wire(self) -> bytes:
        """The JSON that travels."""
        if not self.revision:
            return self.value
        return codec.splice(self.value, self.revision, codec.head_size(self.kind))

    def read(self) -> Document:
        """A document with its resourceVersion; the caller must not change it."""
        return codec.decode(self.value, self.revision)


def unavailable(error: StoreUnavailable) -> errors.StatusError:
    """What is told to whoever writes what the store cannot take."""
    return errors.ServiceUnavailable(f"the store is unavailable: {error}")
