"""How FailureDomains are called, and what one says. Pure."""

from machinery.api.fleet.resilience import FailureDomain

UNKNOWN = "Unknown"


def domain_name(level: str, name: str) -> str:
    """`cluster.alpha`, `zone.zone-a`; a name that no object may have loses what is odd about it."""
    clean = "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "-" for c in name.lower())
    return f"{level.lower()}.{clean.strip('-.') or 'x'}"


def cluster_of(domain: FailureDomain) -> str | None:
    """The cluster that a domain of level Cluster is about; None for the other levels."""
    level, _, name = domain.metadata.name.partition(".")
    return name if level == "cluster" and name else None


def cluster_verdict(domain: FailureDomain | None) -> str:
    """The verdict that an object holds."""
    return domain.status.verdict if domain is not None else UNKNOWN
