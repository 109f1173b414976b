"""Objects of custom kinds converted by their definition's webhook (ConversionReview v1 and v1beta1), in upstream's words.

Reading and writing ask `Conversion` as if it knew every answer. It remembers what it was told for some seconds, by the object's
bytes; what it does not know it raises, and `converting` asks the webhook and begins again. Lists ask for all their objects at
once (`Conversion.all`). A webhook may change no metadata but labels and annotations: the rest is put back, and another name,
namespace, uid or kind is a failure. So is no answer: there is no failure policy here.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import orjson

from machinery.api.customresources import conversion
from machinery.api.customresources.conversion import ConversionWanted
from machinery.api.scheme import ServedKind
from machinery.api.validation import metadata
from machinery.api.validation.causes import Causes
from machinery.kit.clock import Clock
from machinery.kit.ids import Ids
from machinery.meta.errors import InternalError
from machinery.meta.resource import Document
from machinery.server.webhooks.client import CallFailed, WebhookClient
from machinery.server.webhooks.target import Target, target_of

T = TypeVar("T")
GROUP: Final = "apiextensions.k8s.io"
VERSIONS: Final = ("v1", "v1beta1")
TIMEOUT_S: Final = 30
BATCH_OBJECTS: Final = 500
"""Of one review."""
BATCH_BYTES: Final = 4 << 20
"""Of one review, unless a single object is larger."""
KEPT_S: Final = 10.0
"""How long an answer counts. A webhook that was changed meanwhile is heard after that."""
KEPT_BYTES_MAX: Final = 16 << 20
TRIES: Final = 16
"""How many objects one piece of work may have to wait for, one after the other."""


class Unfit(Exception):
    """The answer is none; the message is upstream's."""


class Conversions:
    """What the definitions of one server convert with."""

    def __init__(self, client: WebhookClient, clock: Clock, ids: Ids) -> None:
        self._client = client
        self._clock = clock
        self._ids = ids

    def of(self, definition: Document) -> "Conversion | None":
        """The webhook of a definition; None where its strategy is None."""
        spec = definition["spec"]
        config = spec.get("conversion") or {}
        if config.get("strategy") != "Webhook":
            return None
        return Conversion(config, self._client, self._clock, self._ids)


class Conversion:
    """The webhook of one definition."""

    def __init__(
        self, config: Mapping[str, Any], client: WebhookClient, clock: Clock, ids: Ids
    ) -> None:
        self.config = config
        webhook: Mapping[str, Any] = config.get("webhook") or {}
        self._target: Target = target_of(webhook.get("clientConfig") or {})
        self._versions: Sequence[str] = webhook.get("conversionReviewVersions") or ()
        self._client = client
        self._clock = clock
        self._ids = ids
        self._kept: OrderedDict[tuple[str, bytes], tuple[float, int, Document]] = OrderedDict()
        self._bytes = 0

    def __call__(self, document: Document, api_version: str) -> Document:
        """The object in that version. Raises ConversionWanted."""
        if document["apiVersion"] == api_version:
            return document
        found = self._known(_key(document, api_version))
        if found is None:
            raise ConversionWanted(self, document, api_version)
        return found

    def _known(self, key: tuple[str, bytes]) -> Document | None:
        kept = self._kept.get(key)
        if kept is None or kept[0] < self._clock.monotonic():
            return None
        return kept[2]

    async def all(self, documents: Sequence[Document], api_version: str) -> list[Document]:
        """The objects in that version, in order. Raises InternalError."""
        found: list[Document | None] = []
        missing: list[int] = []
        for index, document in enumerate(documents):
            same = document["apiVersion"] == api_version
            known = document if same else self._known(_key(document, api_version))
            found.append(known)
            if known is None:
                missing.append(index)
        for first in _batches(missing, documents):
            asked = [documents[index] for index in first]
            for index, answer in zip(first, await self._ask(asked, api_version), strict=True):
                found[index] = answer
                self._keep(_key(documents[index], api_version), answer)
        return [document for document in found if document is not None]

    def _keep(self, key: tuple[str, bytes], document: Document) -> None:
        size = len(orjson.dumps(document))
        until = self._clock.monotonic() + KEPT_S
        if (old := self._kept.pop(key, None)) is not None:
            self._bytes -= old[1]
        self._kept[key] = (until, size, document)
        self._bytes += size
        while self._bytes > KEPT_BYTES_MAX and len(self._kept) > 1:
            _, (_, gone, _) = self._kept.popitem(last=False)
            self._bytes -= gone

    async def _ask(self, documents: Sequence[Document], api_version: str) -> list[Document]:
        what = f"{documents[0]['apiVersion']}, Kind={documents[0]['kind']}"
        version = next((one for one in self._versions if one in VERSIONS), "")
        if not version:
            raise _failed("no supported conversion review versions")
        uid = self._ids.uid()
        review = {
            "kind": "ConversionReview", "apiVersion": f"{GROUP}/{version}",
            "request": {
                "uid": uid, "desiredAPIVersion": api_version, "objects": list(documents),
            },
        }  # fmt: skip
        try:
            answer = await self._client.ask(self._target, review, TIMEOUT_S)
            converted = answered(answer, version, uid)
        except (CallFailed, Unfit) as why:
            raise _failed(f"conversion webhook for {what} failed: {why}") from why
        if len(converted) != len(documents):
            raise _failed(
                f"conversion webhook for {what} returned {len(converted)} objects, expected {len(documents)}"
            )
        found = []
        for index, (original, one) in enumerate(zip(documents, converted, strict=True)):
            try:
                found.append(restored(original, one, api_version))
            except Unfit as why:
                text = f"conversion webhook for {what} returned invalid converted object at index {index}: {why}"
                raise _failed(text) from None
        return found


async def converting(work: Callable[[], T]) -> T:
    """What the work gives, after all conversions that it wants. It is begun anew after each. Raises InternalError."""
    for _ in range(TRIES):
        try:
            return work()
        except ConversionWanted as wanted:
            _ = await wanted.source.all([wanted.document], wanted.api_version)
    raise _failed("conversion webhook is asked about more and more objects")


async def outward_all(kind: ServedKind, documents: Iterable[Document]) -> list[Document]:
    """Stored objects of a dynamic kind as they are served; what has to be asked is asked together. Raises InternalError."""
    convert = kind.dynamic and kind.dynamic.convert
    if not convert:
        return [conversion.outward(kind, document) for document in documents]
    stored = [conversion.stored(kind, document) for document in documents]
    found = await convert.all(stored, kind.api_version)
    return [
        one if one is given else conversion.shown(kind, one)
        for given, one in zip(stored, found, strict=True)
    ]


def converts(kind: ServedKind) -> bool:
    """Whether reading its objects may have to wait for a webhook."""
    return kind.dynamic is not None and kind.dynamic.convert is not None


def answered(answer: Document, version: str, uid: str) -> list[Any]:
    """The converted objects of an answer. Raises Unfit."""
    if version == "v1":
        wanted = f"{GROUP}/v1, Kind=ConversionReview"
        given = f"{answer.get('apiVersion') or '/'}, Kind={answer.get('kind') or ''}"
        if given != wanted:
            raise Unfit(f"expected webhook response of {wanted}, got {given}")
    response = answer.get("response")
    if not isinstance(response, Mapping):
        raise Unfit("no response provided")
    if version == "v1" and response.get("uid", "") != uid:
        raise Unfit(f'expected response.uid="{uid}", got "{response.get("uid", "")}"')
    result = response.get("result")
    result = result if isinstance(result, Mapping) else {}
    if result.get("status") != "Success":
        message = result.get("message")
        raise Unfit(
            str(message) or ""
            if message
            else f"response.result.status was '{result.get('status') or ''}', not 'Success'"
        )
    objects = response.get("convertedObjects") or []
    if not isinstance(objects, list):
        raise Unfit("response.convertedObjects is no list")
    return objects


def restored(original: Document, converted: Any, api_version: str) -> Document:
    """The converted object with its own metadata but for labels and annotations. Raises Unfit."""
    if not isinstance(converted, dict):
        raise Unfit("it is no object")
    if converted.get("apiVersion") != api_version:
        given = converted.get("apiVersion") or ""
        raise Unfit(f"invalid groupVersion (expected {api_version}, received {given})")
    if converted.get("kind") != original["kind"]:
        kinds = f"(expected {original['kind']}, received {converted.get('kind') or ''})"
        raise Unfit(f"invalid kind {kinds}")
    was, given = original["metadata"], converted.get("metadata")
    if not isinstance(given, dict):
        raise Unfit("missing metadata in converted object")
    for key, name in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        if (was.get(key) or "") != (given.get(key) or ""):
            raise Unfit(
                f"must have the same {name}: {was.get(key) or ''} != {given.get(key) or ''}"
            )
    kept = {key: value for key, value in was.items() if key not in ("labels", "annotations")}
    for name in ("labels", "annotations"):
        if given.get(name) is not None:
            kept[name] = _texts(name, given[name])
    return {**converted, "metadata": kept}


def _texts(name: str, given: Any) -> dict[str, str]:
    if not isinstance(given, dict):
        raise Unfit(f"invalid metadata.{name} of type {type(given).__name__} in converted object")
    for key, value in given.items():
        if not isinstance(value, str):
            kind = type(value).__name__
            raise Unfit(
                f"metadata.{name}[{key}] must be a string, but is {kind} in converted object"
            )
    causes = Causes()
    check = metadata.labels if name == "labels" else metadata.annotations
    check(given, f"metadata.{name}", causes)
    if causes:
        raise Unfit(f"{causes[0]['field']}: {causes[0]['message']}")
    return given


def _batches(indices: Sequence[int], documents: Sequence[Document]) -> list[list[int]]:
    """Those that are asked about together."""
    found: list[list[int]] = []
    size = 0
    for index in indices:
        more = len(orjson.dumps(documents[index]))
        full = not found or len(found[-1]) >= BATCH_OBJECTS or size + more > BATCH_BYTES
        if full:
            found.append([])
            size = 0
        found[-1].append(index)
        size += more
    return found


def _key(document: Document, api_version: str) -> tuple[str, bytes]:
    return (api_version, hashlib.blake2b(orjson.dumps(document), digest_size=16).digest())


def _failed(why: str) -> InternalError:
    """Upstream lets it through as a bare 500."""
    return InternalError(why, reason="")
