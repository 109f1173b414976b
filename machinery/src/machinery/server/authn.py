"""Who asks: client certificate, static token, bootstrap token, ServiceAccount token, an identity provider's. Nobody is anonymous.

A request with no credentials gets 401 (health checks aside, which `http` answers before asking). So does one with a
token that we do not know, even if its connection carries a good certificate: a wrong token is a mistake, not a guest.
A ServiceAccount token counts only as long as its account, and the pod or secret it is bound to, exist with that uid.
"""

import base64
import binascii
import datetime as dt
import hmac
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from machinery.api.fleet.multicluster import GATEWAY_USER_PREFIX
from machinery.kit.clock import Clock, parse_time
from machinery.meta.errors import Unauthorized
from machinery.server.oidc.users import OidcUsers
from machinery.server.tokens import Claims, TokenIssuer
from machinery.server.user import AUTHENTICATED, UserInfo, service_account_user

Lookup = Callable[[str, str, str], bytes | None]
"""(plural of a core kind, namespace, name) -> the stored value."""
ExtraAuthenticator = Callable[[web.BaseRequest], UserInfo | None]

API_AUDIENCE = "https://kubernetes.default.svc.cluster.local"
VERIFIED_MAX = 8192
VERIFIED_FOR_S = 60.0
_BOOTSTRAP = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_EXTRA_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")


class _Uid(msgspec.Struct):
    uid: str = ""
    deletionTimestamp: str | None = None  # noqa: N815 - the wire's name


class _Identity(msgspec.Struct):
    metadata: _Uid


class _Secret(msgspec.Struct):
    type: str = ""
    data: dict[str, str] | None = None


_identity = msgspec.json.Decoder(_Identity)
_secret = msgspec.json.Decoder(_Secret)


def unauthorized() -> Unauthorized:
    """The one answer to everybody unknown."""
    return Unauthorized("Unauthorized")


class Authenticator:
    """Finds the user of a request."""

    def __init__(
        self,
        lookup: Lookup,
        issuer: TokenIssuer,
        clock: Clock,
        static: Sequence[tuple[str, UserInfo]] = (),
        extras: Sequence[ExtraAuthenticator] = (),
        oidc: OidcUsers | None = None,
    ) -> None:
        self._lookup = lookup
        self._issuer = issuer
        self._clock = clock
        self._static = {token: user.authenticated() for token, user in static}
        self._extras = tuple(extras)
        self._oidc = oidc
        self._verified: dict[str, tuple[Claims, float]] = {}

    def authenticate(self, request: web.BaseRequest, peer: UserInfo | None) -> UserInfo:
        """The user of a request whose connection's certificate belongs to `peer`. Raises Unauthorized."""
        user = self.known(request.headers, peer)
        if user is not None:
            return user
        for extra in self._extras:
            user = extra(request)
            if user is not None:
                return user.authenticated()
        raise unauthorized()

    def known(self, headers: Mapping[str, str], peer: UserInfo | None) -> UserInfo | None:
        """The user of a token, else of the certificate; None: others may know. Raises Unauthorized."""
        token = _bearer(headers)
        if not token:
            return peer
        user = self.token_user(token)
        if user is None:
            raise unauthorized()
        return user

    async def learned(self, headers: Mapping[str, str]) -> bool:
        """Whether something was learned for a request that was refused, so that it is worth asking once more."""
        return self._oidc is not None and await self._oidc.learned(_bearer(headers))

    def token_user(self, token: str, audiences: Sequence[str] = (API_AUDIENCE,)) -> UserInfo | None:
        """The user that a bearer token stands for."""
        user = self._static.get(token)
        if user is not None:
            return user
        if _BOOTSTRAP.fullmatch(token):
            return self._bootstrap_user(token)
        oidc = self._oidc if API_AUDIENCE in audiences else None
        if oidc is not None and (user := oidc.remembered(token)) is not None:
            return user
        claims = self.claims(token, audiences)
        if claims is not None:
            return _claims_user(claims)
        return None if oidc is None else oidc.user(token)

    def claims(self, token: str, audiences: Sequence[str] = (API_AUDIENCE,)) -> Claims | None:
        """The claims of a ServiceAccount token that still counts."""
        now = self._clock.monotonic()
        known = self._verified.get(token)
        if known is not None and known[1] > now and known[0].audiences == tuple(audiences):
            claims: Claims | None = known[0] if self._in_time(known[0]) else None
        else:
            claims = self._issuer.verify(token, audiences)
            if claims is not None:
                if len(self._verified) >= VERIFIED_MAX:
                    self._verified.clear()
                self._verified[token] = (claims, now + VERIFIED_FOR_S)
        if claims is None or not self._alive(claims):
            return None
        return claims

    def _in_time(self, claims: Claims) -> bool:
        return self._clock.now().timestamp() < claims.expires

    def _alive(self, claims: Claims) -> bool:
        if not self._exists("serviceaccounts", claims.namespace, claims.name, claims.uid):
            return False
        return all(
            self._exists(bound.kind.lower() + "s", claims.namespace, bound.name, bound.uid)
            for bound in claims.bound
            if bound.kind in ("Pod", "Secret")
        )

    def _exists(self, plural: str, namespace: str, name: str, uid: str) -> bool:
        value = self._lookup(plural, namespace, name)
        return value is not None and _identity.decode(value).metadata.uid == uid

    def _bootstrap_user(self, token: str) -> UserInfo | None:
        token_id, _, given = token.partition(".")
        value = self._lookup("secrets", "kube-system", f"bootstrap-token-{token_id}")
        if value is None:
            return None
        secret = _secret.decode(value)
        if secret.type != "bootstrap.kubernetes.io/token":
            return None
        data = _decoded(secret.data or {})
        if not hmac.compare_digest(data.get("token-secret", "").encode(), given.encode()):
            return None
        if data.get("token-id") != token_id or data.get("usage-bootstrap-authentication") != "true":
            return None
        if self._expired(data.get("expiration", "")):
            return None
        groups = [
            g for g in data.get("auth-extra-groups", "").split(",") if _EXTRA_GROUP.fullmatch(g)
        ]
        return UserInfo(
            f"system:bootstrap:{token_id}", ("system:bootstrappers", *groups, AUTHENTICATED)
        )

    def _expired(self, expiration: str) -> bool:
        if not expiration:
            return False
        try:
            return parse_time(expiration) <= self._clock.now()
        except ValueError:
            return True


def _bearer(headers: Mapping[str, str]) -> str:
    """The token of a request, empty where it has none."""
    header = headers.get("Authorization")
    return header[7:].strip() if header is not None and header[:7].lower() == "bearer " else ""


def _decoded(data: Mapping[str, str]) -> dict[str, str]:
    decoded = {}
    for key, value in data.items():
        try:
            decoded[key] = base64.b64decode(value).decode()
        except (binascii.Error, UnicodeDecodeError):
            decoded[key] = ""
    return decoded


def _claims_user(claims: Claims) -> UserInfo:
    extra: dict[str, tuple[str, ...]] = {
        "authentication.kubernetes.io/credential-id": (f"JTI={claims.token_id}",)
    }
    for bound in claims.bound:
        if bound.kind in ("Pod", "Node"):
            prefix = f"authentication.kubernetes.io/{bound.kind.lower()}"
            extra[f"{prefix}-name"] = (bound.name,)
            extra[f"{prefix}-uid"] = (bound.uid,)
    return service_account_user(claims.namespace, claims.name, claims.uid, extra)


def peer_end(certificate: Mapping[str, Any] | None) -> dt.datetime | None:
    """Until when a client certificate is good, as ssl's getpeercert() describes it; None where there is none."""
    end = (certificate or {}).get("notAfter")
    return dt.datetime.fromtimestamp(ssl.cert_time_to_seconds(end), dt.UTC) if end else None


def peer_user(certificate: Mapping[str, Any] | None) -> UserInfo | None:
    """The user of a verified client certificate, as ssl's getpeercert() describes it.

    A gateway's certificate is for other gateways: here it is nobody's, and has not even the rights that everybody has.
    """
    if not certificate:
        return None
    name, groups = "", []
    for part in certificate.get("subject", ()):
        for key, value in part:
            if key == "commonName":
                name = value
            elif key == "organizationName":
                groups.append(value)
    if not name or name.startswith(GATEWAY_USER_PREFIX):
        return None
    return UserInfo(name, (*groups, AUTHENTICATED))
