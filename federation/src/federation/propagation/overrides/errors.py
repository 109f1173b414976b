"""What can go wrong when an object is overridden; the messages are Karmada's, since users look for them."""


class OverrideError(Exception):
    """An override does not fit the object: nothing of the object may be used."""


class PointerError(OverrideError):
    """A JSON pointer leads nowhere."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}: JSON pointer error")


class PolicyFailed(OverrideError):
    """A policy's override does not fit; `policy` is its key as people write it, `namespace/name`."""

    def __init__(self, policy: str, why: str) -> None:
        super().__init__(why)
        self.policy = policy
