"""The public keys of identity providers: fetched, kept for the time without them, and fetched again for a key that is not known.

Of a provider that is away the last keys count, also after a restart: they lie in a file (they are public). Keys are looked for again
every ten minutes, so that one which was withdrawn is not believed for longer.
"""

import asyncio
import hashlib
import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import jwt
import orjson

from machinery.kit.clock import Clock
from machinery.meta.resource import Document
from machinery.server.oidc.config import Issuer

log = logging.getLogger(__name__)

REFRESH_S: Final = 600.0
RETRY_S: Final = 10.0
"""The least time between two attempts: whoever sends tokens with keys that do not exist asks no provider more often."""
TIMEOUT_S: Final = 10.0
DOCUMENT_BYTES_MAX: Final = 1024 * 1024
ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512",
)  # fmt: skip
"""What upstream believes too: no `none`, and nothing with a shared secret."""


class KeysError(Exception):
    """The provider gave no keys; the text says why."""


class KeySet:
    """One issuer's keys."""

    def __init__(self, issuer: Issuer, directory: str, clock: Clock) -> None:
        self.issuer = issuer
        self._clock = clock
        name = hashlib.sha256(issuer.url.encode()).hexdigest()[:24]
        self._file = Path(directory, f"{name}.json") if directory else None
        self._keys: tuple[jwt.PyJWK, ...] = ()
        self._tried_at = -REFRESH_S
        self._lock = asyncio.Lock()
        self._remember()

    def candidates(self, key_id: str, algorithm: str) -> list[jwt.PyJWK]:
        """Keys that may have made a signature: that of the id, or where a token names none every one of its kind."""
        family = {"R": "RSA", "P": "RSA", "E": "EC"}[algorithm[0]]
        fitting = [key for key in self._keys if key.key_type == family]
        return [key for key in fitting if key.key_id == key_id] if key_id else fitting

    @property
    def due(self) -> bool:
        """Whether it is time to look again."""
        wait = REFRESH_S if self._keys else RETRY_S
        return self._clock.monotonic() - self._tried_at >= wait

    async def learn(self) -> bool:
        """Look again now, unless that was tried a moment ago; whether it was looked."""
        async with self._lock:
            if self._clock.monotonic() - self._tried_at < RETRY_S:
                return False
            self._tried_at = self._clock.monotonic()
            try:
                found = await self._fetched()
                self._keys = parsed(found)
            except (KeysError, aiohttp.ClientError, OSError, TimeoutError) as error:
                told = {"issuer": self.issuer.url, "error": str(error) or type(error).__name__}
                log.warning("an identity provider's keys cannot be fetched", extra=told)
                return True
            if self._file is not None:
                await asyncio.to_thread(_write, self._file, found)
            return True

    async def _fetched(self) -> Document:
        context = ssl.create_default_context(cadata=self.issuer.certificateAuthority or None)
        limit = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=limit) as session:
            where = (
                self.issuer.discoveryURL
                or f"{self.issuer.url.rstrip('/')}/.well-known/openid-configuration"
            )
            told = await _document(session, where, context)
            if told.get("issuer") != self.issuer.url:
                raise KeysError(
                    f"{where} names the issuer {told.get('issuer')!r}, not {self.issuer.url!r}"
                )
            keys_url = told.get("jwks_uri")
            if not isinstance(keys_url, str) or urlsplit(keys_url).scheme != "https":
                raise KeysError(f"{where} has no jwks_uri over https")
            return await _document(session, keys_url, context)

    def _remember(self) -> None:
        """What the file has."""
        if self._file is None or not self._file.exists():
            return
        try:
            self._keys = parsed(orjson.loads(self._file.read_bytes()))
        except (KeysError, ValueError, OSError) as error:
            log.warning(
                "kept keys cannot be read", extra={"issuer": self.issuer.url, "error": str(error)}
            )


def parsed(document: Any) -> tuple[jwt.PyJWK, ...]:
    """The signing keys of a JWK set (RFC 7517); those of kinds that nobody signs tokens with are left out. Raises KeysError."""
    listed = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(listed, list):
        raise KeysError("it is no JSON Web Key Set: it has no list `keys`")
    found = []
    for one in listed:
        if (
            not isinstance(one, Mapping)
            or one.get("use", "sig") != "sig"
            or one.get("kty") not in ("RSA", "EC")
        ):
            continue
        try:
            found.append(jwt.PyJWK(dict(one)))
        except (jwt.PyJWKError, jwt.InvalidKeyError, ValueError, TypeError):
            log.info("a key is not understood", extra={"kid": str(one.get("kid"))[:100]})
    if not found:
        raise KeysError("it has no RSA or EC key for signatures")
    return tuple(found)


async def _document(session: aiohttp.ClientSession, url: str, context: ssl.SSLContext) -> Document:
    async with session.get(url, ssl=context, allow_redirects=False) as response:
        if response.status != 200:
            raise KeysError(f"{url} answers {response.status}")
        body = bytearray()
        async for piece in response.content.iter_chunked(64 * 1024):
            body += piece
            if len(body) > DOCUMENT_BYTES_MAX:
                raise KeysError(f"{url} gives more than {DOCUMENT_BYTES_MAX} bytes")
    try:
        found = orjson.loads(bytes(body))
    except ValueError:
        raise KeysError(f"{url} gives no JSON") from None
    if not isinstance(found, dict):
        raise KeysError(f"{url} gives no object")
    return found


def _write(path: Path, document: Document) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_suffix(".new")
    new.write_bytes(orjson.dumps(document))
    new.replace(path)
