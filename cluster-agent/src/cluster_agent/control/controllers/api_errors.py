"""Answers of the API that controllers treat apart."""

from machinery.meta.errors import StatusError


def is_namespace_terminating(error: StatusError) -> bool:
    """Whether the namespace takes nothing new because it is going away: not worth an Event or another try."""
    causes = (error.details or {}).get("causes") or ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
