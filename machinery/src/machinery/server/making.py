"""From what a client asks for to what is stored: admitted, prepared, validated, recorded, in the order upstream does it.

    create   default → plugins and policies → webhooks → prepare → validate → policies, webhooks
    update   (the wanted object) → plugins and policies → webhooks → prepare → validate → policies, webhooks

Managers are recorded of what the client asked for: nobody owns what admission and strategies add. Webhooks see them recorded
and may change them. Where no webhook is concerned nothing is waited for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from machinery.api import defaults, strategy, validation
from machinery.api.managed_fields import strip, update_manager, with_creator
from machinery.api.scheme import ServedKind
from machinery.api.warnings import name_advice, warnings_of
from machinery.kit.clock import Clock, rfc3339
from machinery.kit.ids import Ids
from machinery.meta import errors
from machinery.meta.resource import Document
from machinery.server.admission.interface import Admission, AdmissionRequest
from machinery.server.admission.managers import judged_managers, managed_by
from machinery.server.admission.matching import GROUP as REGISTRATION
from machinery.server.admission.webhooks import Webhooks
from machinery.server.bursts import Bursts, Wish, is_pod
from machinery.server.call import Call, Deletion
from machinery.server.services.allocator import ServiceAllocator
from machinery.server.webhooks.conversion import converting

GENERATED_BASE_MAX = 58
SERVICE = ("", "Service")


@dataclass(slots=True)
class Draft:
    """A new object on its way."""

    request: AdmissionRequest
    asked: Document
    """As the client wants it, defaults included."""
    wish: Wish | None
    manage: bool
    managers: list[Document] | None = None
    """What webhooks made of the field managers."""


@dataclass(slots=True)
class Revision:
    """A change of an object on its way."""

    request: AdmissionRequest
    live: Document
    wanted: Document
    """As the change makes it of `live`, before the endpoint has its say."""
    asked: Document
    """What the endpoint lets the client change."""
    manage: bool
    managers: list[Document] | None = None
    """What webhooks made of the field managers."""


class Maker:
    """Makes the objects of one server."""

    def __init__(  # noqa: PLR0913 - what a write needs, handed in once
        self,
        admission: Admission,
        services: ServiceAllocator | None,
        bursts: Bursts,
        clock: Clock,
        ids: Ids,
        *,
        track_managers: bool,
    ) -> None:
        self._admission = admission
        self._services = services
        self._bursts = bursts
        self._clock = clock
        self._ids = ids
        self._track_managers = track_managers
        self.webhooks: Webhooks | None = None
        """Set by whoever serves users' webhooks."""

    def asks_outside(  # noqa: PLR0913 - what rules look at
        self,
        verb: str,
        kind: ServedKind,
        namespace: str,
        name: str,
        subresource: str,
        call: Call,
    ) -> bool:
        """Whether somebody outside may have to be asked about a write."""
        if kind.group == REGISTRATION:  # answered when it is in effect
            return True
        webhooks = self.webhooks
        if webhooks is None or webhooks.idle:
            return False
        return webhooks.concerns(
            AdmissionRequest(verb, kind, namespace, name, subresource, {}, None, call)
        )

    def draft(  # noqa: PLR0913 - a create has this many circumstances
        self,
        kind: ServedKind,
        document: Document,
        namespace: str,
        call: Call,
        *,
        origin: Document,
        manage: bool = True,
    ) -> Draft:
        """The object as plugins leave it. `origin` is `document` as it came, before it was given its namespace."""
        metadata = document["metadata"]
        generate = metadata.get("generateName", "")
        generated = bool(generate) and not metadata.get("name")
        if generated:
            name = generate[:GENERATED_BASE_MAX] + self._ids.suffix()
            document = {**document, "metadata": {**metadata, "name": name}}
        wish = self._wish(kind, document, origin)
        asked = defaults.apply_defaults(kind, document) if wish is None else wish.document
        name = asked["metadata"].get("name", "")
        request = AdmissionRequest(
            "create", kind, namespace, name, "", asked, None, call, generated=generated
        )
        _ = self._admission.admit(request)
        return Draft(request, asked, wish, manage)

    async def created(  # noqa: PLR0913 - a create has this many circumstances
        self,
        kind: ServedKind,
        document: Document,
        namespace: str,
        call: Call,
        *,
        origin: Document,
        manage: bool,
    ) -> Document:
        """The object as it will be stored: webhooks are asked where some are concerned."""

        def begin() -> Draft:
            return self.draft(kind, document, namespace, call, origin=origin, manage=manage)

        draft = begin() if kind.dynamic is None else await converting(begin)
        request = draft.request
        consultation = None if self.webhooks is None else self.webhooks.consult(request)
        if consultation is None:
            if kind.dynamic is None:
                return self.final(draft)
            return await converting(lambda: self.final(draft))
        admitted = request.document
        if draft.manage:
            request.document = self._recorded(
                request.kind, None, draft.asked, admitted, request.call, ""
            )
        shown = request.document
        if await consultation.mutate(request, self._admission):
            check_namespace(request.kind, request.document["metadata"], request.namespace)
            draft.wish = None
            draft.managers = judged_managers(shown, request)
        else:
            request.document = admitted
        final = request.document = await converting(lambda: self.final(draft))
        await consultation.validate(request)
        return final

    def final(self, draft: Draft) -> Document:
        """Prepared and validated."""
        request, asked, wish = draft.request, draft.asked, draft.wish
        kind, call, admitted = request.kind, request.call, request.document
        document = strategy.prepare_create(kind, admitted)
        now = rfc3339(self._clock.now())
        stamp = {"uid": self._ids.uid(), "creationTimestamp": now}
        document = {**document, "metadata": {**document["metadata"], **stamp}}
        document = self._allocated(kind, strategy.stamped(kind, document), None, call)
        sound = wish is not None and wish.sound and admitted["metadata"] is asked["metadata"]
        causes = validation.validate_create(kind, document, sound_metadata=sound)
        if causes:
            raise errors.invalid(
                kind.kind, kind.group, document["metadata"].get("name", ""), causes
            )
        request.document = document
        request.name, request.generated = document["metadata"].get("name", ""), False
        self._admission.validate(request)
        if wish is None:
            call.warnings.extend(warnings_of(kind, document, creating=True))
        else:
            call.warnings.extend((*wish.advice, *name_advice(document)))
        if not draft.manage or draft.managers is not None:
            return managed_by(document, draft.managers)
        if wish is not None:
            return with_creator(kind, document, wish.fields, call.manager, now)
        return self._recorded(kind, None, asked, document, call, "")

    def _wish(self, kind: ServedKind, document: Document, origin: Document) -> Wish | None:
        """What is remembered of such pods; None where there is nothing to remember."""
        if not is_pod(kind) or not self._track_managers or "managedFields" in document["metadata"]:
            return None
        return self._bursts.wish(kind, document, origin)

    def revision(
        self, request: AdmissionRequest, live: Document, *, manage: bool = True
    ) -> Revision:
        """A change as plugins leave it. `request.document` is the wanted object."""
        wanted = request.document
        asked = strategy.prepare_update(request.kind, wanted, live, request.subresource)
        _ = self._admission.admit(request)
        return Revision(request, live, wanted, asked, manage)

    async def updated(self, request: AdmissionRequest, live: Document, *, manage: bool) -> Document:
        """Prepared, admitted, validated and recorded, as it will be stored: webhooks are asked where some are concerned."""
        wanted = request.document

        def begin() -> Revision:
            request.document = wanted
            return self.revision(request, live, manage=manage)

        dynamic = request.kind.dynamic is not None
        revision = await converting(begin) if dynamic else begin()
        consultation = None if self.webhooks is None else self.webhooks.consult(request)
        if consultation is not None:
            admitted = request.document
            if manage:
                request.document = self._recorded(
                    request.kind, live, revision.asked, admitted, request.call, request.subresource
                )
            shown = request.document
            if await consultation.mutate(request, self._admission):
                revision.managers = judged_managers(shown, request)
            else:
                request.document = admitted
        admitted = request.document

        def finish() -> Document:
            request.document = admitted
            return self.revised(revision)

        new = await converting(finish) if dynamic else finish()
        if consultation is not None:
            request.document = new
            await consultation.validate(request)
        return new

    def revised(self, revision: Revision) -> Document:
        """Prepared, validated and recorded."""
        request, live, asked = revision.request, revision.live, revision.asked
        kind, call, subresource = request.kind, request.call, request.subresource
        new = asked
        if request.document is not revision.wanted:
            new = strategy.prepare_update(kind, request.document, live, subresource)
        if not subresource:
            new = self._allocated(kind, new, live, call)
        causes = validation.validate_update(kind, new, live, subresource)
        if causes:
            raise errors.invalid(kind.kind, kind.group, request.name, causes)
        request.document = new
        self._admission.validate(request)
        if not revision.manage or revision.managers is not None:
            return managed_by(new, revision.managers)
        return self._recorded(kind, live, asked, new, call, subresource)

    async def outside_delete(  # noqa: PLR0913 - a delete has this many circumstances
        self,
        kind: ServedKind,
        namespace: str,
        name: str,
        live: Document,
        options: Deletion,
        call: Call,
    ) -> None:
        """Whether webhooks let it go. Raises StatusError."""
        if self.webhooks is None:
            return
        request = AdmissionRequest(
            "delete", kind, namespace, name, "", live, live, call, options=options
        )
        if (consultation := self.webhooks.consult(request)) is not None:
            _ = await consultation.mutate(request, self._admission)
            await consultation.validate(request)

    async def passed(self, request: AdmissionRequest) -> Document:
        """A body that is not stored itself (a Binding, an Eviction, a review, the options of an exec) as policies and webhooks leave
        it. Raises StatusError."""
        policies = self._admission.policies
        _ = policies.admit(request)
        consultation = None if self.webhooks is None else self.webhooks.consult(request)
        if consultation is not None:
            _ = await consultation.mutate(request, policies)
        policies.validate(request)
        if consultation is not None:
            await consultation.validate(request)
        return request.document

    def _allocated(
        self, kind: ServedKind, new: Document, live: Document | None, call: Call
    ) -> Document:
        """A Service with its addresses and ports, chosen but not claimed; anything else as it is."""
        if self._services is None or kind.group_kind != SERVICE:
            return new
        return self._services.choose(new, live, rehearsal=call.dry_run)

    def _recorded(  # noqa: PLR0913 - who changed what, from what, to what
        self,
        kind: ServedKind,
        live: Document | None,
        asked: Document,
        final: Document,
        call: Call,
        subresource: str,
    ) -> Document:
        """`final` with the managers of what was `asked`: nobody owns what the server chose."""
        told = self._with_manager(kind, live, asked, call, subresource)
        if asked is final:
            return told
        metadata = {k: v for k, v in final["metadata"].items() if k != "managedFields"}
        if managers := told["metadata"].get("managedFields"):
            metadata["managedFields"] = managers
        return {**final, "metadata": metadata}

    def _with_manager(
        self, kind: ServedKind, live: Document | None, new: Document, call: Call, subresource: str
    ) -> Document:
        recorded = live is not None and "managedFields" in live["metadata"]
        given = new["metadata"].get("managedFields")
        if given is not None and live is None:
            new = strip(new)
        if not self._track_managers and not recorded:
            return new
        return update_manager(
            kind, live, new, call.manager, rfc3339(self._clock.now()), subresource
        )


def check_namespace(kind: ServedKind, metadata: Mapping[str, Any], namespace: str) -> None:
    """Raises BadRequest where the object says that it is in another namespace."""
    given = metadata.get("namespace", "")
    if kind.namespaced and given and given != namespace:
        raise errors.BadRequest(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
