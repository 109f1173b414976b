"""ServiceAccount tokens: JWTs bound to an account and, through it, to a pod or a secret.

Issued by the TokenRequest subresource and by nobody else. A token says which account (and pod) it is for by uid, so
that deleting either makes it worthless; whether they still exist is looked up by `authn`, this module only signs and
reads. ES256: its key fits the rest of the PKI and its signature fits a header.
"""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from machinery.kit.clock import Clock
from machinery.kit.ids import Ids
from machinery.meta.resource import Document
from machinery.server.pki import key_pem, load_key, write_private

ALGORITHM = "ES256"
SECONDS_MIN = 600
SECONDS_MAX = 1 << 32


@dataclass(frozen=True, slots=True)
class Bound:
    """The object whose life a token shares."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says."""

    namespace: str
    name: str
    uid: str
    audiences: tuple[str, ...]
    token_id: str = ""
    bound: tuple[Bound, ...] = field(default=())
    expires: float = math.inf
    """Seconds since the epoch."""


class TokenIssuer:
    """Signs and reads the tokens of one cluster."""

    def __init__(
        self, key: ec.EllipticCurvePrivateKey, issuer: str, clock: Clock, ids: Ids
    ) -> None:
        self._key = key
        self._public = key.public_key()
        self._clock = clock
        self._ids = ids
        self.issuer = issuer
        self.key_id = _key_id(self._public)

    @classmethod
    def load_or_create(cls, directory: str, issuer: str, clock: Clock, ids: Ids) -> "TokenIssuer":
        """With the key in `directory`/sa.key, made when absent; an empty directory keeps it in memory."""
        if not directory:
            return cls(ec.generate_private_key(ec.SECP256R1()), issuer, clock, ids)
        path = Path(directory) / "sa.key"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(path, key_pem(ec.generate_private_key(ec.SECP256R1())))
        return cls(load_key(path.read_bytes()), issuer, clock, ids)

    def issue(
        self,
        namespace: str,
        name: str,
        uid: str,
        audiences: Sequence[str],
        seconds: int,
        bound: Sequence[Bound] = (),
    ) -> tuple[str, int]:
        """(token, expiry in seconds since the epoch)."""
        now = int(self._clock.now().timestamp())
        private: dict[str, Any] = {
            "namespace": namespace,
            "serviceaccount": {"name": name, "uid": uid},
        }
        for reference in bound:
            private[reference.kind.lower()] = {"name": reference.name, "uid": reference.uid}
        claims = {
            "aud": list(audiences),
            "exp": now + seconds,
            "iat": now,
            "iss": self.issuer,
            "jti": self._ids.uid(),
            "kubernetes.io": private,
            "nbf": now,
            "sub": f"system:serviceaccount:{namespace}:{name}",
        }
        return (
            jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"kid": self.key_id}),
            now + seconds,
        )

    def verify(self, token: str, audiences: Sequence[str]) -> Claims | None:
        """The claims of a token of ours that is in time and meant for one of `audiences`, else None."""
        if not token.isascii():  # bytes of a header that are no text either
            return None
        try:
            claims = jwt.decode(
                token,
                self._public,
                algorithms=[ALGORITHM],
                audience=list(audiences),
                issuer=self.issuer,
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError:
            return None
        now = self._clock.now().timestamp()
        if not claims.get("nbf", 0) - 60 <= now < claims.get("exp", 0):
            return None
        return _claims(claims, audiences)

    def jwks(self) -> Document:
        """The public key for everybody who checks tokens (RFC 7517)."""
        numbers = self._public.public_numbers()
        return {
            "keys": [
                {
                    "use": "sig",
                    "kty": "EC",
                    "kid": self.key_id,
                    "crv": "P-256",
                    "alg": ALGORITHM,
                    "x": _base64url(numbers.x.to_bytes(32, "big")),
                    "y": _base64url(numbers.y.to_bytes(32, "big")),
                }
            ]
        }

    def openid_configuration(self, base_url: str) -> Document:
        """The discovery document of the issuer."""
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{base_url}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
        }


def _claims(claims: Mapping[str, Any], audiences: Sequence[str]) -> Claims | None:
    private = claims.get("kubernetes.io")
    if not isinstance(private, dict) or not isinstance(private.get("serviceaccount"), dict):
        return None
    account = private["serviceaccount"]
    bound = tuple(
        Bound(kind, private[key].get("name", ""), private[key].get("uid", ""))
        for key, kind in (("pod", "Pod"), ("secret", "Secret"), ("node", "Node"))
        if isinstance(private.get(key), dict)
    )
    meant = tuple(a for a in claims.get("aud", ()) if a in audiences)
    return Claims(
        private.get("namespace", ""),
        account.get("name", ""),
        account.get("uid", ""),
        meant,
        claims.get("jti", ""),
        bound,
        float(claims.get("exp", 0)),
    )


def _key_id(public: ec.EllipticCurvePublicKey) -> str:
    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return _base64url(hashlib.sha256(der).digest())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
