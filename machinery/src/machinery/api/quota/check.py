"""Whether a write has room in a quota, in upstream's words.

A quota counts by its status: `hard` there is what is enforced (the controller takes it over from the spec when it has
counted), `used` what is taken. A new quota whose status is empty refuses nothing yet.
"""

import datetime as dt
from dataclasses import dataclass

from machinery.api.quota import amounts, scopes, usage
from machinery.api.quota.amounts import Amounts
from machinery.api.scheme import ServedKind
from machinery.meta.resource import Document


class Refused(Exception):
    """There is no room; the text says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A write that changes what is used. `new` or `old` may be absent."""

    kind: ServedKind
    new: Document | None
    old: Document | None


def concerned(quota: Document, asked: Asked) -> list[str]:
    """The names of the resources that the quota counts of such objects; empty where it does not look at this one."""
    hard = (quota.get("status") or {}).get("hard") or {}
    names = usage.matching(asked.kind, hard)
    seen = asked.new if asked.new is not None else asked.old
    if not names or seen is None or not scopes.selects(quota, asked.kind, seen):
        return []
    return names


def delta(asked: Asked, now: dt.datetime) -> Amounts:
    """What the write takes more than before; resources of which it takes none are left out."""
    more = {} if asked.new is None else usage.of(asked.kind, asked.new, now)
    if asked.old is not None:
        more = amounts.subtract(more, usage.of(asked.kind, asked.old, now))
    return {name: value for name, value in more.items() if value.value}


def charged(quota: Document, asked: Asked, now: dt.datetime) -> Amounts:
    """What `used` of the quota grows by. Raises Refused."""
    names = concerned(quota, asked)
    if not names:
        return {}
    name, status = quota["metadata"]["name"], quota.get("status") or {}
    is_pod = asked.kind.group_kind == ("", "Pod")
    if is_pod and asked.new is not None and (unsaid := usage.unsaid(asked.new, names)):
        raise Refused(f"failed quota: {name}: {unsaid}")
    used, hard = amounts.read(status.get("used")), amounts.read(status["hard"])
    if unknown := [one for one in names if one not in used]:
        raise Refused(f"status unknown for quota: {name}, resources: {','.join(sorted(unknown))}")
    wanted = amounts.masked(delta(asked, now), names)
    then = amounts.add(used, wanted)
    over = [one for one in wanted if then[one].value > hard[one].value]
    if over:
        raise Refused(
            f"exceeded quota: {name}, requested: {amounts.shown(wanted, over)}, "
            f"used: {amounts.shown(used, over)}, limited: {amounts.shown(hard, over)}"
        )
    return wanted


def with_used(quota: Document, more: Amounts, less: Amounts) -> Document:
    """The quota with what was taken and given back."""
    status = quota.get("status") or {}
    used = amounts.read(status.get("used"))
    found = amounts.add(used, amounts.masked(more, used.keys()))
    found = amounts.subtract(found, amounts.masked(less, used.keys()))
    return {**quota, "status": {**status, "used": amounts.written(found)}}
