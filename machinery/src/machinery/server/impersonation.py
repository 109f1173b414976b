"""Impersonation: a user with the right to, acts as another (`kubectl --as`).

Each part of the other identity (user, groups, uid, extra) is a right of its own, asked of the real user.
"""

from collections.abc import Iterable, Mapping
from urllib.parse import unquote

from machinery.meta.errors import BadRequest
from machinery.server.authz import Authorizer
from machinery.server.rbac import Attributes
from machinery.server.request import readable
from machinery.server.user import (
    AUTHENTICATED,
    UserInfo,
    service_account_user,
    split_service_account,
)  # fmt: skip

ANONYMOUS = "system:anonymous"
AUTHN_GROUP = "authentication.k8s.io"
_HEADERS = frozenset({"impersonate-user", "impersonate-uid", "impersonate-group"})
_EXTRA = "impersonate-extra-"
_USUAL = frozenset(
    {"Host", "User-Agent", "Accept", "Accept-Encoding", "Authorization", "Content-Type", "Content-Length", "Connection"}
)  # fmt: skip
"""What nearly every request has, as clients spell it: nothing is looked at one by one where there is nothing else."""


def is_asked(headers: Iterable[str]) -> bool:
    """Whether any header is about another identity, a part of one included."""
    if _USUAL.issuperset(headers):
        return False
    for name in headers:
        if name[:1] in "iI" and (
            (lowered := name.lower()) in _HEADERS or lowered.startswith(_EXTRA)
        ):
            return True
    return False


def impersonated(headers: Mapping[str, str], user: UserInfo, authorizer: Authorizer) -> UserInfo:
    """The identity that the headers ask for. Raises BadRequest, Forbidden."""
    name, uid = "", ""
    groups: list[str] = []
    extra: dict[str, list[str]] = {}
    for key, sent in headers.items():
        lowered, value = key.lower(), readable(sent)
        if lowered == "impersonate-user":
            name = value
        elif lowered == "impersonate-uid":
            uid = value
        elif lowered == "impersonate-group":
            groups.append(value)
        elif lowered.startswith(_EXTRA):
            extra.setdefault(unquote(lowered.removeprefix(_EXTRA)), []).append(value)
    if not name:
        raise BadRequest(
            f"requested {_go_user(uid, groups, extra)} without impersonating a user name"
        )
    _check(authorizer, user, name, groups, uid, extra)
    frozen = {key: tuple(values) for key, values in extra.items()}
    account = split_service_account(name)
    if account is not None and not groups:
        return service_account_user(*account, uid, frozen)
    if name == ANONYMOUS and not groups:
        return UserInfo(name, ("system:unauthenticated",), uid, frozen)
    if AUTHENTICATED not in groups and name != ANONYMOUS:
        groups.append(AUTHENTICATED)
    return UserInfo(name, tuple(groups), uid, frozen)


def _check(
    authorizer: Authorizer,
    user: UserInfo,
    name: str,
    groups: list[str],
    uid: str,
    extra: dict[str, list[str]],
) -> None:
    account = split_service_account(name)
    if account is not None:
        asked = [Attributes("impersonate", "", "serviceaccounts", "", account[0], account[1])]
    else:
        asked = [Attributes("impersonate", "", "users", "", "", name)]
    asked += [Attributes("impersonate", "", "groups", "", "", group) for group in groups]
    if uid:
        asked.append(Attributes("impersonate", AUTHN_GROUP, "uids", "", "", uid))
    for key, values in extra.items():
        asked += [
            Attributes("impersonate", AUTHN_GROUP, "userextras", key, "", value) for value in values
        ]
    for each in asked:
        authorizer.check(user, each)


def _go_user(uid: str, groups: list[str], extra: dict[str, list[str]]) -> str:
    """The way Go prints the half identity."""
    listed = (
        "[]string{" + ", ".join(f'"{group}"' for group in groups) + "}"
        if groups
        else "[]string(nil)"
    )
    if extra:
        pairs = (
            f'"{key}":[]string{{' + ", ".join(f'"{v}"' for v in values) + "}"
            for key, values in sorted(extra.items())
        )
        shown = "map[string][]string{" + ", ".join(pairs) + "}"
    else:
        shown = "map[string][]string(nil)"
    return f'&user.DefaultInfo{{Name:"", UID:"{uid}", Groups:{listed}, Extra:{shown}}}'
