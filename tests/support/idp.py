"""An identity provider for tests: discovery and keys over TLS on loopback, tokens of its own making."""

import base64
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from machinery.kit.clock import SystemClock
from machinery.server.pki import CertificateAuthority, server_context

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwk(key: Key, key_id: str, **more: str) -> dict[str, Any]:
    """The public half."""
    if isinstance(key, rsa.RSAPrivateKey):
        found = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        found = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**found, "kid": key_id, "use": "sig", **more}


@dataclass
class Provider:
    """`keys` by id are what it shows; what it signs with may be another."""

    url: str
    ca_pem: str
    keys: dict[str, Key] = field(default_factory=dict)
    asked: int = 0
    away: bool = False
    says: dict[str, Any] = field(default_factory=dict)
    """What its discovery document says otherwise."""

    def token(self, key: Key, key_id: str = "", algorithm: str = "", **claims: Any) -> str:
        now = int(SystemClock().now().timestamp())
        body = {"iss": self.url, "aud": "fleet", "exp": now + 600, "sub": "ann", **claims}
        body = {name: value for name, value in body.items() if value is not None}
        algorithm = algorithm or ("RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256")
        return jwt.encode(body, key, algorithm, headers={"kid": key_id} if key_id else None)

    async def answer(self, request: web.BaseRequest) -> web.Response:
        if self.away:
            raise web.HTTPServiceUnavailable
        if request.path == "/.well-known/openid-configuration":
            self.asked += 1
            return web.json_response(
                {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **self.says}
            )
        if request.path == "/keys":
            return web.json_response({"keys": [jwk(key, name) for name, key in self.keys.items()]})
        raise web.HTTPNotFound


@contextlib.asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    """One that serves until the block ends."""
    authority = CertificateAuthority.create("provider", SystemClock())
    pair = authority.issue_serving("provider", ["127.0.0.1"], 30)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    found = Provider(f"https://127.0.0.1:{port}", authority.certificate_pem.decode())
    runner = web.ServerRunner(web.Server(found.answer))
    await runner.setup()
    context: ssl.SSLContext = server_context(found.ca_pem, pair)
    context.verify_mode = ssl.CERT_NONE
    await web.SockSite(runner, listening, ssl_context=context).start()
    try:
        yield found
    finally:
        await runner.cleanup()


def unsigned(claims: dict[str, Any]) -> str:
    """A token of algorithm none."""
    return jwt.encode(claims, "", "none")


def tampered(token: str, **claims: Any) -> str:
    """The same signature under other claims."""
    head, _, signature = token.split(".")
    body = {**jwt.decode(token, options={"verify_signature": False}), **claims}
    text = base64.urlsafe_b64encode(json.dumps(body).encode()).rstrip(b"=")
    return f"{head}.{text.decode()}.{signature}"
