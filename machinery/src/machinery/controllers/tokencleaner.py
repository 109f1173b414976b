"""Token cleaner: a bootstrap token whose time is over is deleted, not merely refused."""

import base64
import binascii
import datetime as dt

from machinery.api.core import SECRETS, Secret
from machinery.controller.action import Action, Delete, RequeueAfter, Result
from machinery.controller.manager import Manager
from machinery.kit.clock import parse_time
from machinery.meta.resource import ObjectKey

NAMESPACE = "kube-system"
TYPE = "bootstrap.kubernetes.io/token"


def expiry(secret: Secret) -> dt.datetime | None:
    """When the token ends; None for ever. A time that cannot be read has passed: a broken token lets nobody in."""
    encoded = secret.data.get("expiration", "")
    if not encoded:
        return None
    try:
        return parse_time(base64.b64decode(encoded, validate=True).decode())
    except (ValueError, binascii.Error):
        return dt.datetime.min.replace(tzinfo=dt.UTC)


def plan(secret: Secret, now: dt.datetime) -> list[Action]:
    """Delete it, or look again when it ends."""
    ends = expiry(secret)
    if secret.type != TYPE or ends is None:
        return []
    left = (ends - now).total_seconds()
    if left > 0:
        return [RequeueAfter(left + 1.0)]
    return [Delete(SECRETS, secret.key, uid=secret.metadata.uid)]


class TokenCleaner:
    """Read, plan, act."""

    def __init__(self, manager: Manager) -> None:
        self._executor, self._clock = manager.executor, manager.clock
        self._secrets = manager.informer(SECRETS, NAMESPACE, field_selector=f"type={TYPE}")

    async def reconcile(self, key: ObjectKey) -> Result:
        secret = self._secrets.get(key)
        if secret is None:
            return Result()
        return await self._executor.apply(plan(secret, self._clock.now()))


def setup(manager: Manager) -> None:
    """Watch the bootstrap tokens."""
    builder = manager.controller("token-cleaner", TokenCleaner(manager), workers=1)
    builder.watches(SECRETS, namespace=NAMESPACE, field_selector=f"type={TYPE}")
