"""Dynamic admission: users' webhooks are asked about a write, in upstream's order and words.

    mutating      one after the other; each patch is applied, checked and defaulted before the next one sees it. Where one has
                  changed something, the plugins change what they will once more, and then the webhooks that want it (IfNeeded)
    validating    all at once, behind everything that may refuse

What a webhook does not answer is its failure policy's business; what it refuses is not. Who must not be asked in a
rehearsal refuses it. A `Consultation` is one write on its way; there is none for a write that no rule is about.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import orjson

from machinery.api import decode, defaults, match_conditions
from machinery.api.expressions.functions.authorizing import Answer
from machinery.api.patch import json_patch
from machinery.api.scheme import ServedKind
from machinery.kit.ids import Ids
from machinery.kit.metrics import METRICS
from machinery.meta.errors import BadRequest, StatusError, internal
from machinery.meta.resource import Document
from machinery.server.admission import reviews
from machinery.server.admission.asking import question_of
from machinery.server.admission.interface import AdmissionRequest, forbidden
from machinery.server.admission.registered import NOBODY, Concerned, Hook, Registered
from machinery.server.admission.seen import Seen, asked_of
from machinery.server.audit.event import PATCHES
from machinery.server.user import UserInfo
from machinery.server.webhooks.client import CallFailed, WebhookClient
from machinery.server.webhooks.conversion import converting

log = logging.getLogger(__name__)

MUTATION: Final = "mutation.webhook.admission.k8s.io/"
OPEN_MUTATING: Final = "failed-open.mutation.webhook.admission.k8s.io/"
OPEN_VALIDATING: Final = "failed-open.validation.webhook.admission.k8s.io/"
DURATION: Final = METRICS.histogram(
    "apiserver_admission_webhook_admission_duration_seconds", "Until a webhook had answered.",
    ["name", "type", "operation"],
)  # fmt: skip
REJECTED: Final = METRICS.counter(
    "apiserver_admission_webhook_rejection_total",
    "Writes that a webhook refused, or that failed as it gave no answer.",
    ["name", "type", "operation", "error_type", "rejection_code"],
)
OPENED: Final = METRICS.counter(
    "apiserver_admission_webhook_fail_open_total",
    "Webhooks that gave no answer and were passed over.",
    ["name", "type"],
)
Labels = Callable[[str], Mapping[str, str] | None]


class Admits(Protocol):
    """What may change the object besides webhooks."""

    def admit(self, request: AdmissionRequest) -> Document: ...


class _NotAsked(Exception):
    """No answer: the failure policy decides."""

    def __init__(self, hook: Hook, why: str) -> None:
        super().__init__(f'failed calling webhook "{hook.name}": {why}')


class Webhooks:
    """The webhooks of one server."""

    def __init__(
        self, registered: Registered, client: WebhookClient, labels: Labels, ids: Ids
    ) -> None:
        self.registered = registered
        self.client = client
        self.labels = labels
        self.ids = ids
        self.answers: Callable[[UserInfo], Answer | None] = lambda _user: None
        """Who answers what conditions ask of the authorizer; set by whoever has one."""
        self.open = False
        """Nobody is asked before the server serves: what it makes at its start must not wait for a webhook that runs on it."""

    def consult(self, request: AdmissionRequest) -> "Consultation | None":
        """Whom to ask about the write; None where nobody is concerned."""
        if not self.open or self.registered.none:
            return None
        concerned = self.registered.concerned(asked_of(request))
        return None if concerned is NOBODY else Consultation(self, concerned)

    def concerns(self, request: AdmissionRequest) -> bool:
        """Whether anybody might be asked about the write."""
        return self.consult(request) is not None

    @property
    def idle(self) -> bool:
        """Whether nobody is asked about anything."""
        return not self.open or self.registered.none


class _Round:
    """What is remembered of webhooks between the first round and the second."""

    def __init__(self) -> None:
        self.number = 0
        self.changed = False
        self.asked_before: dict[str, None] = {}
        self.ask_again: dict[str, None] = {}

    def again(self) -> None:
        """The object is another one: whoever wants to see it again has been asked before."""
        self.ask_again |= self.asked_before
        self.asked_before = {}


class Consultation:
    """One write, of which webhooks are asked. `mutate` first, then `validate`."""

    def __init__(self, webhooks: Webhooks, concerned: Concerned) -> None:
        self._webhooks = webhooks
        self._concerned = concerned

    # ------------------------------------------------------------------------------------------------------ mutating
    async def mutate(self, request: AdmissionRequest, plugins: Admits) -> bool:
        """Whether `request.document` is another one now. Raises StatusError."""
        if not self._concerned.mutating:
            return False
        state = _Round()
        await self._round(request, state)
        if not state.changed:
            return False
        before = request.document
        request.reinvoked = True
        _ = await converting(lambda: plugins.admit(request))
        if request.document != before:
            state.again()
        state.number = 1
        await self._round(request, state)
        request.reinvoked = False
        return True

    async def _round(self, request: AdmissionRequest, state: _Round) -> None:
        for hook in self._concerned.mutating:
            seen = Seen(request)
            kind = await converting(lambda: self._meant(hook, request, seen))  # noqa: B023 - called at once
            if kind is None or (state.number and hook.uid not in state.ask_again):
                continue
            changed = await self._mutated(hook, request, seen, kind, state.number)
            if changed:
                state.changed = True
                state.again()
            if hook.again:
                state.asked_before[hook.uid] = None

    async def _mutated(
        self, hook: Hook, request: AdmissionRequest, seen: Seen, kind: ServedKind, number: int
    ) -> bool:
        place = f"round_{number}_index_{hook.index}"
        notes = request.call.annotations
        changed = False
        try:
            verdict = await self._ask(hook, request, seen, kind, mutating=True)
            changed = await converting(
                lambda: self._patched(hook, request, seen, kind, verdict, place)
            )
        except _NotAsked as why:
            if not hook.ignores:
                _failed(hook, "admit", seen)
                raise internal(str(why)) from why
            _passed_over(hook, "admit", why)
            notes.setdefault(OPEN_MUTATING + place, hook.name)
        finally:
            told = {
                "configuration": hook.configuration, "webhook": hook.name, "mutated": changed,
            }  # fmt: skip
            notes.setdefault(MUTATION + place, _compact(told))
        return changed

    def _patched(  # noqa: PLR0913 - the patch, and all that it is applied to
        self,
        hook: Hook,
        request: AdmissionRequest,
        seen: Seen,
        kind: ServedKind,
        verdict: reviews.Verdict,
        place: str,
    ) -> bool:
        """Whether the answer's patch changes the object, which it does then. Raises StatusError, _NotAsked."""
        try:
            operations = reviews.operations(verdict)
        except reviews.Unfit as why:
            raise _NotAsked(hook, str(why)) from None
        except ValueError as error:
            raise internal(str(error)) from None
        if not operations:
            return False
        before = seen.shown(seen.document, kind)
        if before is None:
            text = (
                f'admission webhook "{hook.name}" attempted to modify the object, which is not supported for this '
                "operation"
            )
            raise internal(text)
        note = {
            "configuration": hook.configuration, "webhook": hook.name, "patch": operations,
            "patchType": verdict.patch_type,
        }  # fmt: skip
        request.call.annotations.setdefault(PATCHES + place, _compact(note))
        after = _applied(hook, before, operations)
        body = seen.body_kind(kind)
        tidy = after if body is None else _tidied(body, after, before)
        if _canonical(before) == _canonical(tidy):
            return False
        full = tidy if body is None else defaults.apply_defaults(body, tidy)
        request.document = seen.written(seen.taken(full, kind))
        return True

    # ---------------------------------------------------------------------------------------------------- validating
    async def validate(self, request: AdmissionRequest) -> None:
        """Raises the first refusal, in the order of webhooks."""
        hooks = self._concerned.validating
        if not hooks:
            return
        seen = Seen(request)
        meant = []
        for hook in hooks:
            kind = await converting(lambda: self._meant(hook, request, seen))  # noqa: B023 - called at once
            if kind is not None:
                meant.append((hook, kind))
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._validated(hook, request, seen, kind))
                for hook, kind in meant
            ]
        for task in tasks:
            if (refused := task.result()) is not None:
                raise refused

    async def _validated(
        self, hook: Hook, request: AdmissionRequest, seen: Seen, kind: ServedKind
    ) -> StatusError | None:
        try:
            _ = await self._ask(hook, request, seen, kind, mutating=False)
        except _NotAsked as why:
            if not hook.ignores:
                _failed(hook, "validating", seen)
                return internal(str(why))
            _passed_over(hook, "validating", why)
            key = f"{OPEN_VALIDATING}round_0_index_{hook.index}"
            request.call.annotations.setdefault(key, hook.name)
        except StatusError as error:
            return error
        return None

    # -------------------------------------------------------------------------------------------------------- asking
    def _meant(self, hook: Hook, request: AdmissionRequest, seen: Seen) -> ServedKind | None:
        """The kind as which the webhook is asked about the write, or None. Raises NotFound, Forbidden."""
        webhooks = self._webhooks
        kind = hook.criteria.matched(
            seen.asked, seen.document, seen.old, webhooks.labels, webhooks.registered.equivalents
        )
        if kind is None or not hook.conditions:
            return kind
        variables = {
            "object": seen.shown(seen.document, kind),
            "oldObject": seen.shown(seen.old, kind),
            "request": seen.request(kind),
        }
        try:
            holds = match_conditions.all_hold(
                hook.conditions, variables, webhooks.answers(request.call.user), question_of(seen.asked)
            )  # fmt: skip
        except match_conditions.Failed as why:
            if hook.ignores:
                return None
            raise forbidden(seen.asked.kind, seen.asked.name, str(why)) from None
        return kind if holds else None

    async def _ask(
        self,
        hook: Hook,
        request: AdmissionRequest,
        seen: Seen,
        kind: ServedKind,
        *,
        mutating: bool,
    ) -> reviews.Verdict:
        """The webhook's answer, if it allows. Raises its refusal, _NotAsked."""
        asked = seen.request(kind)
        if asked["dryRun"] and not hook.rehearses:
            raise BadRequest(f'admission webhook "{hook.name}" does not support dry run')
        uid = self._webhooks.ids.uid()
        try:
            version = reviews.version_of(hook.versions)
        except reviews.Unfit as why:
            raise _NotAsked(hook, f"could not create admission objects: {why}") from None
        document = await converting(lambda: seen.shown(seen.document, kind))
        old = await converting(lambda: seen.shown(seen.old, kind))
        review = reviews.review(version, uid, asked, document, old)
        sort, clock = ("admit" if mutating else "validating"), asyncio.get_running_loop()
        began = clock.time()
        try:
            answer = await self._webhooks.client.ask(hook.target, review, hook.seconds)
        except CallFailed as why:
            raise _NotAsked(hook, f"failed to call webhook: {why}") from why
        finally:
            labels = DURATION.labels(hook.name, sort, asked["operation"])
            labels.observe(clock.time() - began)
        try:
            verdict = reviews.verdict(answer, version, uid, mutating=mutating)
        except reviews.Unfit as why:
            raise _NotAsked(hook, f"received invalid webhook response: {why}") from None
        call = request.call
        for key, value in verdict.annotations.items():
            call.annotations.setdefault(f"{hook.name}/{key}", value)
        call.warnings.extend(verdict.warnings)
        if not verdict.allowed:
            refusal = reviews.refusal(hook.name, verdict.status)
            code = refusal.status_code
            REJECTED.labels(hook.name, sort, asked["operation"], "no_error", code).inc()
            raise refusal
        return verdict


def _applied(hook: Hook, before: Document, operations: Any) -> Document:
    try:
        found = json_patch.apply(before, operations)
    except StatusError:
        text = f'admission webhook "{hook.name}" returned a patch that does not apply to the object'
        raise internal(text) from None
    if not isinstance(found, dict):
        text = f'admission webhook "{hook.name}" returned a patch that leaves no object'
        raise internal(text)
    return found


def _tidied(body: ServedKind, after: Document, before: Document) -> Document:
    """Of the kind's types, without unknown fields, and still of that kind."""
    texts = [f"{one.get('apiVersion')}, Kind={one.get('kind')}" for one in (after, before)]
    if texts[0] != texts[1]:
        raise internal(f"unable to decode {texts[0]} into {texts[1]}")
    if "metadata" in before and not isinstance(after.get("metadata"), dict):
        raise internal("the patched object has no metadata")
    try:
        return decode.check_fields(body, after, "Ignore")[0]
    except BadRequest as error:
        raise internal(error.message) from None


def _failed(hook: Hook, sort: str, seen: Seen) -> None:
    operation = seen.asked.operation
    REJECTED.labels(hook.name, sort, operation, "calling_webhook_error", 0).inc()


def _passed_over(hook: Hook, sort: str, why: Exception) -> None:
    OPENED.labels(hook.name, sort).inc()
    log.warning(
        "failed calling webhook, failing open",
        extra={"configuration": hook.configuration, "webhook": hook.name, "error": str(why)},
    )


def _canonical(document: Document) -> bytes:
    """Not by `==`: for Python 1, 1.0 and True are equal."""
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
