"""Values in the log are zstd frames with a checksum: a third of the size, and a damaged one is found when read."""

import zstandard

LEVEL = 1


class Codec:
    """A compressor and its opposite. Not for use by two threads at once."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        self._decompressor = zstandard.ZstdDecompressor()

    def pack(self, value: bytes) -> bytes:
        """The frame to store."""
        return self._compressor.compress(value)

    def unpack(self, frame: bytes) -> bytes:
        """The value of a frame. Raises ValueError when it is damaged."""
        try:
            return self._decompressor.decompress(frame)
        except zstandard.ZstdError as error:
            raise ValueError(f"a stored value is damaged: {error}") from error
