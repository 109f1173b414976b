"""Decoded documents that this process reads, the last ones only.

Informers of documents hold entries of the watch cache, whose bytes are there anyway; decoded, an object is four times
as big as its bytes. What was read lately is kept decoded, so that a small fleet, or a busy part of a big one, decodes
each state once, as if all were kept.
"""

from collections import OrderedDict

from machinery.meta.resource import Document
from machinery.server.cache import Entry

KEPT_BYTES_MAX = 4 * 1024 * 1024
"""Of the bytes that documents were decoded from; some 2,000 Works."""


class Unpacked:
    """Entry -> its document, shared by everybody in the process and never mutated; the least recently read go first."""

    def __init__(self, bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: OrderedDict[Entry, Document] = OrderedDict()

    def document(self, entry: Entry) -> Document:
        """The object as a document."""
        found = self._kept.get(entry)
        if found is not None:
            self._kept.move_to_end(entry)
            return found
        found = self._kept[entry] = entry.document()
        self._bytes += len(entry.value)
        while self._bytes > self._bytes_max:
            gone, _ = self._kept.popitem(last=False)
            self._bytes -= len(gone.value)
        return found
