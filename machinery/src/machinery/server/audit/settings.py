"""Settings of the audit log as both programs have them in their file, under `audit:`. Light: read before a server is."""

from dataclasses import dataclass

SIZE_MEGABYTES_MAX = 10_000
BACKUPS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """The key `audit` of a server's file. Keys are spelled as in the file."""

    enabled: bool = True
    """Whether there is an audit log."""

    path: str = ""
    """The file. Empty: audit/audit.log in the data directory. Of several servers each may have the same."""

    policyFile: str = ""  # noqa: N815
    """A Policy of audit.k8s.io/v1. Empty: the built-in one, who changed what, without any bodies."""

    maxSizeMegabytes: int = 10  # noqa: N815
    """A file that would grow beyond this is put aside as audit.log.1, the older ones one number further."""

    maxBackups: int = 9  # noqa: N815
    """How many files that were put aside are kept."""

    def __post_init__(self) -> None:
        if not 1 <= self.maxSizeMegabytes <= SIZE_MEGABYTES_MAX:
            raise ValueError(f"maxSizeMegabytes: must be 1 to {SIZE_MEGABYTES_MAX}")
        if not 1 <= self.maxBackups <= BACKUPS_MAX:
            raise ValueError(f"maxBackups: must be 1 to {BACKUPS_MAX}")
