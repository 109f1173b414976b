"""Values in the log are zstd frames with a checksum: a third of the size, and a damaged one is found when read.

Where an EncryptionConfiguration says so they are sealed besides (`machinery.store.sealing`).
"""

import zstandard

from machinery.store.sealing import Sealer, is_sealed

LEVEL = 1


class Codec:
    """A compressor and its opposite. Not for use by two threads at once."""

    def __init__(self, sealer: Sealer | None = None) -> None:
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        self._decompressor = zstandard.ZstdDecompressor()
        self._sealer = sealer or Sealer()
        self.stale: set[str] = set()
        """Keys of rows that lie otherwise than they would be written now."""

    @property
    def seals(self) -> bool:
        """Whether anything is encrypted."""
        return self._sealer.seals

    def pack(self, key: str, value: bytes) -> bytes:
        """What to store in the row of this key."""
        self.stale.discard(key)
        return self._sealer.seal(key, self._compressor.compress(value))

    def unpack(self, key: str, lying: bytes) -> bytes:
        """The value of a row. Raises ValueError when it is damaged or does not open."""
        if self._sealer.is_stale(key, lying):
            self.stale.add(key)
        else:
            self.stale.discard(key)
        return self.inflated(self._sealer.open(key, lying))

    def checked(self, lying: bytes) -> None:
        """Look whether it is whole, as far as can be seen without keys. Raises ValueError."""
        if not is_sealed(lying):
            self.inflated(lying)

    def inflated(self, frame: bytes) -> bytes:
        """The value of a frame. Raises ValueError when it is damaged."""
        try:
            return self._decompressor.decompress(frame)
        except zstandard.ZstdError as error:
            raise ValueError(f"a stored value is damaged: {error}") from error
