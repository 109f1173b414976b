"""ServiceAccount tokens for projected volumes: asked of the API, bound to the pod, renewed in time.

A token is renewed at four fifths of its life or after a day. While the API is away the old one stays in use, also
after a restart of the node process: it lies in the pod's own folder, 0600, with the time it was made.
"""

import base64
import binascii
import datetime as dt
import logging
from pathlib import Path

import msgspec

from cluster_agent.node.kubelet.checkpoint import write_private
from machinery.api.core import Pod
from machinery.api.pod_volumes import ServiceAccountTokenProjection
from machinery.client.interface import Client, dynamic
from machinery.kit.clock import Clock, parse_time
from machinery.meta.errors import StatusError

log = logging.getLogger(__name__)

ACCOUNTS = dynamic("", "v1", "serviceaccounts", "ServiceAccount", True)
REFRESH_SHARE = 0.8
REFRESH_MAX = dt.timedelta(hours=24)


class Token(msgspec.Struct, frozen=True):
    """What was given, when, and until when it is good."""

    token: str
    made: dt.datetime
    expires: dt.datetime

    def stale(self, now: dt.datetime) -> bool:
        """Whether it is time for the next one."""
        life = self.expires - self.made
        return now >= min(self.made + life * REFRESH_SHARE, self.made + REFRESH_MAX)


class TokenUnavailable(Exception):
    """No token can be had, and there is none from before."""


class Tokens:
    """Tokens of the pods of one node."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock

    async def get(self, pod: Pod, wanted: ServiceAccountTokenProjection, store: Path) -> str:
        """A good token; `store` is the file that remembers it. Raises TokenUnavailable."""
        known = _load(store)
        now = self._clock.now()
        if known is not None and not known.stale(now):
            return known.token
        try:
            fresh = await self._request(pod, wanted, now)
        except (StatusError, ConnectionError, TimeoutError) as error:
            if known is not None:
                extra = {"pod": str(pod.key), "error": str(error)}
                log.warning("token not renewed", extra=extra)
                return known.token
            raise TokenUnavailable(f"failed to fetch token: {error}") from error
        write_private(store, msgspec.json.encode(fresh))
        return fresh.token

    async def _request(
        self, pod: Pod, wanted: ServiceAccountTokenProjection, now: dt.datetime
    ) -> Token:
        meta = pod.metadata
        document = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [wanted.audience] if wanted.audience else [],
                "expirationSeconds": wanted.expiration_seconds,
                "boundObjectRef": {
                    "apiVersion": "v1", "kind": "Pod", "name": meta.name, "uid": meta.uid,
                },
            },
        }  # fmt: skip
        answer = await self._client.create(
            ACCOUNTS,
            document,
            meta.namespace,
            name=pod.spec.service_account_name or "default",
            subresource="token",
        )
        status = answer["status"]
        expires = parse_time(status["expirationTimestamp"])
        return Token(status["token"], now, expires)


def _load(store: Path) -> Token | None:
    try:
        return msgspec.json.decode(store.read_bytes(), type=Token)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def decode_secret(value: str) -> bytes:
    """Secret data as it is on the wire. Raises ValueError."""
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError("secret data is not base64") from error
