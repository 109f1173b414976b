"""Who asks: the identity that authentication found."""

from collections.abc import Mapping
from dataclasses import dataclass, field

MASTERS = "system:masters"
AUTHENTICATED = "system:authenticated"
NODES = "system:nodes"
NODE_PREFIX = "system:node:"
SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class UserInfo:
    """authentication.k8s.io UserInfo. Two with the same name and groups have the same rights."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = field(default="", compare=False)
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def node(self) -> str:
        """The node's name if a kubelet speaks, else empty."""
        if NODES in self.groups and self.name.startswith(NODE_PREFIX):
            return self.name.removeprefix(NODE_PREFIX)
        return ""

    def authenticated(self) -> "UserInfo":
        """The same user with the group that everybody known has."""
        if AUTHENTICATED in self.groups:
            return self
        return UserInfo(self.name, (*self.groups, AUTHENTICATED), self.uid, self.extra)


ANONYMOUS = UserInfo("system:anonymous", ("system:unauthenticated",))
ADMIN = UserInfo("kubernetes-admin", (MASTERS, AUTHENTICATED))
LOOPBACK = UserInfo("system:apiserver", (MASTERS, AUTHENTICATED))


def service_account_user(
    namespace: str, name: str, uid: str = "", extra: Mapping[str, tuple[str, ...]] | None = None
) -> UserInfo:
    """The user that a ServiceAccount's token stands for."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)
    return UserInfo(f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}", groups, uid, extra or {})


def split_service_account(user_name: str) -> tuple[str, str] | None:
    """(namespace, name) if the user is a ServiceAccount."""
    if not user_name.startswith(SERVICE_ACCOUNT_PREFIX):
        return None
    namespace, separator, name = user_name.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
    return (namespace, name) if separator and namespace and name else None
