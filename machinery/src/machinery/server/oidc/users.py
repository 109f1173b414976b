"""Bearers of OpenID Connect tokens: signature, issuer, audience, times, then the mapping. As kube-apiserver's authenticator `oidc`.

A signature is checked once in ten seconds a token. The file is looked at every minute: a changed one that can be believed in takes the
old one's place; one that cannot is told in the log, and the old one stays.
"""

import asyncio
import base64
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jwt
import orjson

from machinery.kit.clock import Clock
from machinery.kit.tasks import TaskOwner
from machinery.meta.resource import Document
from machinery.server.oidc import config
from machinery.server.oidc.config import ConfigError, JWTAuthenticator
from machinery.server.oidc.keysets import ALGORITHMS, KeySet
from machinery.server.oidc.mapping import Mapper, Refused, issuer_of
from machinery.server.user import UserInfo

log = logging.getLogger(__name__)

KNOWN_FOR_S: Final = 10.0
KNOWN_MAX: Final = 8192
LOOK_EVERY_S: Final = 10.0
FILE_EVERY_S: Final = 60.0
NOT_BEFORE_LEEWAY_S: Final = 300.0
"""For clocks that differ, as upstream's library has it."""


@dataclass(frozen=True, slots=True)
class _Provider:
    settings: JWTAuthenticator
    mapper: Mapper
    keys: KeySet


@dataclass(frozen=True, slots=True)
class _Known:
    user: UserInfo
    expires: float
    until: float


class OidcUsers:
    """The users of all issuers of a file. Raises ConfigError when the file cannot be believed in."""

    def __init__(self, path: str, directory: str, clock: Clock, *, own_issuer: str) -> None:
        self._path, self._directory, self._clock = path, directory, clock
        self._own_issuer = own_issuer
        self._tasks = TaskOwner()
        self._providers: dict[str, _Provider] = {}
        self._known: dict[str, _Known] = {}
        self._file = b""
        self._take(Path(path).read_bytes() if Path(path).exists() else b"", config.load(path))

    def _take(self, text: bytes, settings: Sequence[JWTAuthenticator]) -> None:
        providers = {}
        for index, one in enumerate(settings):
            if one.issuer.url == self._own_issuer:
                raise ConfigError(
                    f'jwt[{index}].issuer.url: Invalid value: "{one.issuer.url}": URL must not overlap with disallowed issuers: [{self._own_issuer}]'
                )
            mapper = Mapper(one, f"jwt[{index}]")
            old = self._providers.get(one.issuer.url)
            same = old is not None and old.settings.issuer == one.issuer
            keys = (
                old.keys
                if old is not None and same
                else KeySet(one.issuer, self._directory, self._clock)
            )
            providers[one.issuer.url] = _Provider(one, mapper, keys)
        self._file, self._providers = text, providers
        self._known.clear()

    # ------------------------------------------------------------------------------------------------- life
    async def start(self) -> None:
        """Look for keys in the background; nobody waits for a provider that is away."""
        _ = self._tasks.spawn(self._look(), "oidc")

    async def close(self) -> None:
        """No more looking."""
        await self._tasks.close()

    async def _look(self) -> None:
        looked = self._clock.monotonic()
        while True:
            if self._clock.monotonic() - looked >= FILE_EVERY_S:
                looked = self._clock.monotonic()
                await asyncio.to_thread(self.read_again)
            for provider in list(self._providers.values()):
                if provider.keys.due and await provider.keys.learn():
                    self._known.clear()
            await self._clock.sleep(LOOK_EVERY_S)

    def read_again(self) -> None:
        """Take the file as it is now, if it has changed and can be believed in."""
        try:
            text = Path(self._path).read_bytes()
            if text != self._file:
                self._take(text, config.parse(text))
                log.info(
                    "the authentication configuration was read again", extra={"path": self._path}
                )
        except (OSError, ConfigError) as error:
            told = {"path": self._path, "error": str(error)}
            log.error(
                "the authentication configuration cannot be read, the old one stays", extra=told
            )

    # ------------------------------------------------------------------------------------------------- tokens
    def remembered(self, token: str) -> UserInfo | None:
        """The user of a token that was verified a moment ago."""
        known = self._known.get(token)
        if known is None:
            return None
        if known.until <= self._clock.monotonic() or known.expires <= self._clock.now().timestamp():
            del self._known[token]
            return None
        return known.user

    def user(self, token: str) -> UserInfo | None:
        """The user that a token stands for; None for whoever is not let in."""
        found = self._provider(token)
        if found is None:
            return None
        provider, head = found
        claims = self._verified(token, provider, head)
        if claims is None:
            return None
        try:
            user = provider.mapper.user(claims)
        except Refused as error:
            told = {"issuer": provider.settings.issuer.url, "error": str(error)}
            log.info("the bearer of a good token is not let in", extra=told)
            return None
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        until = self._clock.monotonic() + KNOWN_FOR_S
        self._known[token] = _Known(user, float(claims["exp"]), until)
        return user

    async def learned(self, token: str) -> bool:
        """Whether a key that this token names, and that was not known, is known now: it may be tried again."""
        found = self._provider(token)
        if found is None:
            return False
        provider, head = found
        key_id = str(head.get("kid") or "")
        if provider.keys.candidates(key_id, head["alg"]):
            return False
        await provider.keys.learn()
        return bool(provider.keys.candidates(key_id, head["alg"]))

    def _provider(self, token: str) -> tuple[_Provider, Document] | None:
        """Whose token it says it is, and its head. Nothing of it is verified yet."""
        parts = token.split(".")
        if not self._providers or len(parts) != 3 or not token.isascii():
            return None
        head, payload = _part(parts[0]), _part(parts[1])
        if head is None or payload is None or head.get("alg") not in ALGORITHMS:
            return None
        provider = self._providers.get(issuer_of(payload))
        return None if provider is None else (provider, head)

    def _verified(self, token: str, provider: _Provider, head: Document) -> Document | None:
        algorithm, issuer = head["alg"], provider.settings.issuer
        for key in provider.keys.candidates(str(head.get("kid") or ""), algorithm):
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    key.key,
                    algorithms=[algorithm],
                    audience=list(issuer.audiences),
                    issuer=issuer.url,
                    options={
                        "verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_sub": False,
                        "verify_jti": False, "require": ["exp"],
                    },
                )  # fmt: skip
            except (jwt.InvalidTokenError, jwt.InvalidKeyError, ValueError, TypeError):
                continue
            return claims if self._in_time(claims) else None
        return None

    def _in_time(self, claims: Document) -> bool:
        now, expires, since = self._clock.now().timestamp(), claims["exp"], claims.get("nbf", 0)
        if not all(
            isinstance(one, int | float) and not isinstance(one, bool) for one in (expires, since)
        ):
            return False
        return bool(since - NOT_BEFORE_LEEWAY_S <= now < expires)


def _part(text: str) -> Document | None:
    try:
        found = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
