"""Values that lie encrypted in the database: an EncryptionConfiguration of apiserver.config.k8s.io/v1, and what it does.

The envelope is upstream's: `k8s:enc:aesgcm:v1:KEY:` and then nonce and ciphertext, sealed together with the key of the row, so that a
value moved to another row does not open there. The first provider of the first entry that names a resource seals, all of it open.
`aesgcm` and `aescbc` are built; `kms` and `secretbox` are refused, since nothing here speaks to a key service, and the package that all
cryptography here comes from has no XSalsa20.

In memory, and so in answers, values are as they were written: what is protected is the disk, its copies and the database's backups.
"""

import base64
import binascii
import fnmatch
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

API_VERSION: Final = "apiserver.config.k8s.io/v1"
KIND: Final = "EncryptionConfiguration"
PREFIX: Final = b"k8s:enc:"
NONCE_BYTES: Final = 12
BLOCK_BYTES: Final = 16
_PLAIN: Final = "identity"


class SealingError(ValueError):
    """The configuration is wrong, or a value does not open; the text says why."""


class _Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str = ""
    secret: str = ""


class _Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: tuple[_Key, ...] = ()


class _Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    aesgcm: _Keys | None = None
    aescbc: _Keys | None = None
    identity: dict[str, Any] | None = None
    secretbox: Any = None
    kms: Any = None


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    resources: tuple[str, ...] = ()
    providers: tuple[_Provider, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    apiVersion: str = ""  # noqa: N815 - the file's names
    kind: str = ""
    resources: tuple[_Entry, ...] = ()


class _Lock:
    """One key of one provider, with the head of what it seals."""

    def __init__(self, provider: str, name: str, secret: bytes) -> None:
        self.head = f"k8s:enc:{provider}:v1:{name}:".encode()
        self._secret = secret
        self._gcm = AESGCM(secret) if provider == "aesgcm" else None

    def seal(self, row: str, value: bytes) -> bytes:
        if self._gcm is not None:
            nonce = os.urandom(NONCE_BYTES)
            return self.head + nonce + self._gcm.encrypt(nonce, value, row.encode())
        padder, vector = padding.PKCS7(BLOCK_BYTES * 8).padder(), os.urandom(BLOCK_BYTES)
        sealer = Cipher(algorithms.AES(self._secret), modes.CBC(vector)).encryptor()
        padded = padder.update(value) + padder.finalize()
        return self.head + vector + sealer.update(padded) + sealer.finalize()

    def open(self, row: str, body: bytes) -> bytes:
        """Raises InvalidTag, ValueError."""
        if self._gcm is not None:
            return self._gcm.decrypt(body[:NONCE_BYTES], body[NONCE_BYTES:], row.encode())
        opener = Cipher(algorithms.AES(self._secret), modes.CBC(body[:BLOCK_BYTES])).decryptor()
        unpadder = padding.PKCS7(BLOCK_BYTES * 8).unpadder()
        padded = opener.update(body[BLOCK_BYTES:]) + opener.finalize()
        return unpadder.update(padded) + unpadder.finalize()


class Sealer:
    """Seals and opens the values of rows, by where they lie: `/registry/GROUP/PLURAL/…`, `core` for the group without a name."""

    def __init__(
        self, entries: Sequence[tuple[Sequence[str], Sequence[_Lock | None]]] = ()
    ) -> None:
        self._entries = entries
        self._first: dict[str, _Lock | None] = {}
        self._locks = [lock for _, locks in entries for lock in locks if lock is not None]

    @property
    def seals(self) -> bool:
        """Whether there is a key at all."""
        return bool(self._locks)

    def seal(self, row: str, value: bytes) -> bytes:
        """The value as it is to lie in the database."""
        lock = self._lock(row)
        return value if lock is None else lock.seal(row, value)

    def open(self, row: str, lying: bytes) -> bytes:
        """The opposite. Raises SealingError."""
        if not is_sealed(lying):
            return lying
        lock = next((one for one in self._locks if lying.startswith(one.head)), None)
        if lock is None:
            raise SealingError(
                f"{row} is sealed with {told(lying)}, which the EncryptionConfiguration does not have"
            )
        try:
            return lock.open(row, lying[len(lock.head) :])
        except (InvalidTag, ValueError):
            raise SealingError(
                f"{row} does not open with {told(lying)}: it is damaged, or the key is another"
            ) from None

    def is_stale(self, row: str, lying: bytes) -> bool:
        """Whether it would be sealed otherwise if it were written now."""
        lock = self._lock(row)
        return is_sealed(lying) if lock is None else not lying.startswith(lock.head)

    def _lock(self, row: str) -> _Lock | None:
        place = row[: row.find("/", row.find("/", row.find("/", 1) + 1) + 1)]
        if place not in self._first:
            _, _, group, plural = (*place.split("/"), "", "", "")[:4]
            self._first[place] = self._chosen("" if group == "core" else group, plural)
        return self._first[place]

    def _chosen(self, group: str, plural: str) -> _Lock | None:
        name = f"{plural}.{group}"
        for resources, locks in self._entries:
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in resources):
                return locks[0]
        return None


def is_sealed(lying: bytes) -> bool:
    """Whether a value lies encrypted; what is not begins as zstd's frames do."""
    return lying.startswith(PREFIX)


def told(lying: bytes) -> str:
    """The provider and key of a sealed value, for people."""
    _, _, provider, _, name, _ = (*lying[:200].split(b":", 5), *[b""] * 6)[:6]
    return f"{provider.decode(errors='replace')} key {name.decode(errors='replace')!r}"


# ---------------------------------------------------------------------------------------------------- the file
def load(path: str) -> Sealer:
    """What a file says; an empty path: nothing is sealed. Raises SealingError."""
    if not path:
        return Sealer()
    try:
        return parse(Path(path).read_bytes())
    except OSError as error:
        raise SealingError(f"{path}: {error.strerror}") from error
    except SealingError as error:
        raise SealingError(f"{path}: {error}") from None


def parse(text: bytes) -> Sealer:
    """What YAML or JSON says. Raises SealingError with a fault a line; no secret is in it."""
    try:
        file = msgspec.convert(yaml.safe_load(text), type=_File)
    except yaml.YAMLError:
        raise SealingError("it is no YAML") from None
    except msgspec.ValidationError as error:
        raise SealingError(str(error)) from None
    if faults := list(_faults(file)):
        raise SealingError("\n".join(faults))
    return Sealer([(_patterns(entry), list(_locks(entry))) for entry in file.resources])


def _patterns(entry: _Entry) -> list[str]:
    """As `plural.group`, with a dot also where the group has no name; `*.` is everything of that one."""
    return [name if "." in name else f"{name}." for name in entry.resources]


def _locks(entry: _Entry) -> Iterator[_Lock | None]:
    for provider in entry.providers:
        for kind, found in _keyed(provider).items():
            for key in found.keys:
                yield _Lock(kind, key.name, base64.b64decode(key.secret))
        if provider.identity is not None:
            yield None


def _keyed(provider: _Provider) -> Mapping[str, _Keys]:
    found = {"aesgcm": provider.aesgcm, "aescbc": provider.aescbc}
    return {kind: keys for kind, keys in found.items() if keys is not None}


def _faults(file: _File) -> Iterator[str]:
    if (file.apiVersion, file.kind) != (API_VERSION, KIND):
        yield f"apiVersion, kind: expected {API_VERSION} and {KIND}, not {file.apiVersion!r} and {file.kind!r}"
    if not file.resources:
        yield "resources: Required value: provide at least one item"
    names: dict[tuple[str, str], str] = {}
    for index, entry in enumerate(file.resources):
        where = f"resources[{index}]"
        if not entry.resources:
            yield f"{where}.resources: Required value: provide at least one item"
        if not entry.providers:
            yield f"{where}.providers: Required value: provide at least one item"
        for number, provider in enumerate(entry.providers):
            yield from _provider_faults(f"{where}.providers[{number}]", provider, names)


def _provider_faults(
    where: str, provider: _Provider, known: dict[tuple[str, str], str]
) -> Iterator[str]:
    if provider.kms is not None or provider.secretbox is not None:
        yield f"{where}: Unsupported value: kms and secretbox are not built here: use aesgcm"
        return
    given = [*_keyed(provider), *([_PLAIN] if provider.identity is not None else [])]
    if len(given) != 1:
        yield f"{where}: Invalid value: exactly one of aesgcm, aescbc, identity is to be given, not {len(given)}"
    for kind, found in _keyed(provider).items():
        if not found.keys:
            yield f"{where}.{kind}.keys: Required value: provide at least one item"
        for number, key in enumerate(found.keys):
            place = f"{where}.{kind}.keys[{number}]"
            if not key.name or ":" in key.name:
                yield f"{place}.name: Invalid value: {key.name!r}: it must have letters, and no colon"
            try:
                size = len(base64.b64decode(key.secret, validate=True))
            except (binascii.Error, ValueError):
                yield f"{place}.secret: Invalid value: secrets must be base64 encoded"
                continue
            if size not in (16, 24, 32):
                yield f"{place}.secret: Invalid value: secret is not of the expected length, got {size}, expected one of [16 24 32]"
            if known.setdefault((kind, key.name), key.secret) != key.secret:
                yield f"{place}.name: Duplicate value: {key.name!r}: two keys of {kind} have this name"
