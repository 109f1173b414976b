"""The webhooks that are registered, ready to be asked: read from the watch cache at each change, so that one is in effect at once.

In the order in which they are asked: by the name of their configuration, then as they stand in it. Who may be concerned by
a kind and an operation is remembered; where nobody is, a write costs one look into a dictionary.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from machinery.meta.resource import Document
from machinery.meta.selectors import SelectorError
from machinery.server.admission.matching import (
    EQUIVALENT,
    Asked,
    Criteria,
    Equivalents,
    Remembered,
    exempt,
)
from machinery.server.cache import CacheEvent, KindCache
from machinery.server.webhooks.target import Target, target_of

log = logging.getLogger(__name__)

NO_SIDE_EFFECTS: Final = ("None", "NoneOnDryRun")


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook of one configuration."""

    configuration: str
    name: str
    index: int
    """Its place among all of its sort."""
    uid: str
    criteria: Criteria
    conditions: tuple[Document, ...]
    target: Target
    versions: tuple[str, ...]
    ignores: bool
    """failurePolicy Ignore: one that cannot be asked is passed over."""
    rehearses: bool
    """May be asked in a dry run."""
    seconds: int
    again: bool
    """reinvocationPolicy IfNeeded."""

    def may_match(self, asked: Asked, equivalents: Equivalents) -> bool:
        """By its rules alone, which look at neither labels nor names."""
        criteria = self.criteria
        if any(rule.matches(asked) for rule in criteria.rules):
            return True
        return criteria.policy == EQUIVALENT and any(
            rule.matches(asked, kind)
            for kind in equivalents.of(asked.kind)
            for rule in criteria.rules
        )


class Concerned(NamedTuple):
    """Whom a write may be about, by rules alone."""

    mutating: tuple[Hook, ...]
    validating: tuple[Hook, ...]


NOBODY: Final = Concerned((), ())


class Registered:
    """The webhooks of one server."""

    def __init__(
        self, mutating: KindCache | None, validating: KindCache | None, equivalents: Equivalents
    ) -> None:
        self._caches = (mutating, validating)
        self.equivalents = equivalents
        self._hooks: list[tuple[Hook, ...]] = [(), ()]
        self._remembered = Remembered(equivalents, self._look)
        for sort, cache in enumerate(self._caches):
            if cache is not None:
                cache.listeners.append(self._listener(sort))

    def _listener(self, sort: int) -> Callable[[CacheEvent], None]:
        return lambda _event: self._read(sort)

    def load(self) -> None:
        """Everything was read anew."""
        for sort in (0, 1):
            self._read(sort)

    def _read(self, sort: int) -> None:
        cache = self._caches[sort]
        if cache is None:
            return
        documents = [entry.document() for entry in cache.entries.values()]
        documents.sort(key=lambda document: str(document["metadata"]["name"]))
        self._hooks[sort] = tuple(hooks_of(documents))
        self._remembered.forget()

    @property
    def none(self) -> bool:
        """Whether there are none at all."""
        return not self._hooks[0] and not self._hooks[1]

    def concerned(self, asked: Asked) -> Concerned:
        """Whom the write may be about."""
        return self._remembered.concerned(asked)

    def _look(self, asked: Asked) -> Concerned:
        if exempt(asked.kind):
            return NOBODY
        mutating, validating = (
            tuple(hook for hook in hooks if hook.may_match(asked, self.equivalents))
            for hooks in self._hooks
        )
        return Concerned(mutating, validating) if mutating or validating else NOBODY


def hooks_of(configurations: list[Document]) -> list[Hook]:
    """The webhooks of stored configurations, in order; one that cannot be read is told of and left out."""
    found: list[Hook] = []
    for configuration in configurations:
        name = configuration["metadata"]["name"]
        seen: dict[str, int] = {}
        for webhook in configuration.get("webhooks") or ():
            number = seen[webhook["name"]] = seen.get(webhook["name"], -1) + 1
            try:
                found.append(_hook(name, webhook, number, len(found)))
            except SelectorError as error:
                log.warning(
                    "webhook not readable",
                    extra={"configuration": name, "webhook": webhook["name"], "error": str(error)},
                )
    return found


def _hook(configuration: str, webhook: Mapping[str, Any], number: int, index: int) -> Hook:
    name = webhook["name"]
    return Hook(
        configuration, name, index, f"{configuration}/{name}/{number}",
        Criteria.of_webhook(webhook),
        tuple(webhook.get("matchConditions") or ()),
        target_of(webhook.get("clientConfig") or {}),
        tuple(webhook.get("admissionReviewVersions") or ()),
        webhook.get("failurePolicy") == "Ignore",
        webhook.get("sideEffects") in NO_SIDE_EFFECTS,
        int(webhook.get("timeoutSeconds") or 10),
        webhook.get("reinvocationPolicy") == "IfNeeded",
    )  # fmt: skip
