"""Whether a write that failed may be repeated blindly."""

from machinery.store.interface import StoreUnavailable


class OutcomeUnknown(StoreUnavailable):
    """The connection broke under the write, and whether it was taken is not known yet: look before you repeat it."""
