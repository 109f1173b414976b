"""What an audit log is told, read from AuditSettings by `launch`."""

from dataclasses import dataclass

from machinery.server.audit.policy import Policy


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """One server's audit log."""

    path: str
    """The file."""
    policy: Policy
    bytes_max: int = 10_000_000
    """Size at which the file is put aside."""
    backups_max: int = 9
    """How many such files are kept."""
