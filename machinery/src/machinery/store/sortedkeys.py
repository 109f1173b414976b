"""Keys in order, cheap to change one by one and to read by prefix.

A plain sorted list moves half of its pointers on each insert; at 100,000 keys that is as dear as the rest of a
write. Here the list is cut into chunks of about a thousand keys, so an insert moves one chunk and a prefix is read
as slices of whole chunks.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable

CHUNK_KEYS = 1024
"""Keys in a fresh chunk; one twice as long is split."""


class SortedKeys:
    """A sorted set of text keys."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        ordered = sorted(set(keys))
        self._chunks = [ordered[i : i + CHUNK_KEYS] for i in range(0, len(ordered), CHUNK_KEYS)]
        self._last = [chunk[-1] for chunk in self._chunks]

    def __len__(self) -> int:
        return sum(map(len, self._chunks))

    def add(self, key: str) -> None:
        """Put in a key that is not there yet."""
        if not self._chunks:
            self._chunks.append([key])
            self._last.append(key)
            return
        index = min(bisect_left(self._last, key), len(self._chunks) - 1)
        chunk = self._chunks[index]
        insort(chunk, key)
        if len(chunk) > 2 * CHUNK_KEYS:
            self._chunks[index : index + 1] = [chunk[:CHUNK_KEYS], chunk[CHUNK_KEYS:]]
            self._last[index : index + 1] = [chunk[CHUNK_KEYS - 1], chunk[-1]]
        else:
            self._last[index] = chunk[-1]

    def remove(self, key: str) -> None:
        """Take out a key that is there."""
        index = bisect_left(self._last, key)
        chunk = self._chunks[index]
        position = bisect_left(chunk, key)
        assert chunk[position] == key
        del chunk[position]
        if chunk:
            self._last[index] = chunk[-1]
        else:
            del self._chunks[index], self._last[index]

    def below(self, prefix: str) -> list[str]:
        """The keys that start with `prefix`, which ends in `/`, in order."""
        end = prefix[:-1] + "0"  # the character after "/": every key of the prefix sorts before it
        first = bisect_left(self._last, prefix)
        found: list[str] = []
        for chunk in self._chunks[first:]:
            if chunk[0] >= end:
                break
            start = bisect_left(chunk, prefix) if chunk[0] < prefix else 0
            stop = bisect_left(chunk, end) if chunk[-1] >= end else len(chunk)
            found += chunk[start:stop]
        return found
