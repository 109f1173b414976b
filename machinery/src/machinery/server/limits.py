"""What clients may take of a server: the limits, and what of them an operator sets. Light: read before a server is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take of a server."""

    flow_waiting_max: int = 100
    """Requests of one flow that wait in a level; the next is answered 429."""

    wait_s: float = 15.0
    """How long one waits for a seat before it is answered 429; a quarter of a request's time, as upstream."""

    seat_s: float = 5.0
    """Whoever has had a seat for so long loses it to those who wait, and goes on without: it waits for a slow client."""

    lasting_max: int = 10_000
    """Watches and streams of one user at once; the next is answered 429."""

    address_connections_max: int = 20_000
    """Connections of one address; never more than three quarters of the files that the process may open."""

    head_s: float = 32.0
    """How long a request line with its headers may take, as upstream."""

    head_bytes_max: int = 64 * 1024
    """Request line and headers that have come without an end."""

    line_bytes_max: int = 32 * 1024
    """Request line, or one header: tokens that list groups are long."""

    headers_max: int = 128
    """Headers of a request."""

    body_bytes_max: int = 3 * 1024 * 1024
    """Largest request body; a larger one is answered 413."""

    body_grace_s: float = 60.0
    """After this a body must have come at the rate below on the whole."""

    body_bytes_s_min: int = 1024
    """Bytes of a body a second."""

    handshake_s: float = 15.0
    """How long the handshake of TLS may take."""

    sweep_s: float = 5.0
    """How often connections are looked through for requests that do not come."""


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """The key `limits` of a server's file. Keys are spelled as in the file. What is not here is fixed."""

    requestBodyBytes: int = LIMITS.body_bytes_max  # noqa: N815
    """Largest request body; a larger one is answered 413."""

    waitingRequestsPerFlow: int = LIMITS.flow_waiting_max  # noqa: N815
    """Requests of one user that wait for a seat in a level; the next is answered 429."""

    waitSeconds: float = LIMITS.wait_s  # noqa: N815
    """How long a request waits for a seat before it is answered 429."""

    lastingRequestsPerUser: int = LIMITS.lasting_max  # noqa: N815
    """Watches and streams of one user at once; the next is answered 429."""

    connectionsPerAddress: int = LIMITS.address_connections_max  # noqa: N815
    """Connections of one address; further ones are closed. Never more than three quarters of the files that the process may open."""

    def __post_init__(self) -> None:
        if not 64 * 1024 <= self.requestBodyBytes <= 64 * 1024 * 1024:
            raise ValueError("requestBodyBytes: must be 65536 to 67108864")
        if not 0 < self.waitSeconds <= 60:
            raise ValueError("waitSeconds: must be more than 0 and at most 60")
        for name in ("waitingRequestsPerFlow", "lastingRequestsPerUser", "connectionsPerAddress"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be 1 or more")

    @property
    def limits(self) -> Limits:
        """All of them."""
        return Limits(
            body_bytes_max=self.requestBodyBytes,
            flow_waiting_max=self.waitingRequestsPerFlow,
            wait_s=self.waitSeconds,
            lasting_max=self.lastingRequestsPerUser,
            address_connections_max=self.connectionsPerAddress,
        )
