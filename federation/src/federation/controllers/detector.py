"""Detector: every template that a policy claims has a binding that says what is to be placed, and no other has one.

The binding carries what a decision needs (replicas, requests, placement, and as an annotation the spread and headroom of
the workload's ResiliencePolicy) and the policy's other wishes. A template that
only follows another (a ConfigMap of a Deployment) has a binding too, kept by the dependencies controller in
`spec.requiredBy`; this controller leaves that field alone.

A policy that goes, or stops selecting a template, takes nothing away: the binding loses the claim and keeps its placement,
so that what runs goes on until another policy claims it or the template goes (Karmada's rule). A lazy policy
(`activationPreference`) is heeded when a template is made or changed: the binding of one that is there stays as it is till then.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from federation.placement import platforms
from federation.placement.preferences import stated
from federation.propagation import claims, customized
from federation.propagation.claims import Claim
from federation.propagation.customized import (
    BUILT_IN,
    Customizations,
    Followed,
    InterpretationFailed,
)
from federation.propagation.demand import demand_of
from federation.propagation.matching import Policy
from federation.propagation.resilience import DEMANDS, demanded, resilience
from federation.propagation.scopes import SCOPES, scope_of
from federation.propagation.templates import PRIORITY_CLASSES, TEMPLATES, propagatable, subject
from federation.propagation.works import LOCAL_ANNOTATIONS, binding_name
from machinery.api.fleet.interpretation import (
    COMPONENT,
    CUSTOMIZATIONS,
    ResourceInterpreterCustomization,
)
from machinery.api.fleet.policy import (
    CLUSTER_OVERRIDE_POLICIES,
    CLUSTER_PROPAGATION_POLICIES,
    OVERRIDE_POLICIES,
    PROPAGATION_POLICIES,
)
from machinery.api.fleet.resilience import RESILIENCE_POLICIES
from machinery.api.fleet.work import ResourceBinding, binding_resource
from machinery.client.informer import Informer
from machinery.client.interface import PatchType
from machinery.controller.action import Action, Create, Delete, Emit, Patch, Result
from machinery.controller.manager import ControllerBuilder, Manager
from machinery.controller.predicates import wish_changed
from machinery.meta.objectmeta import to_document
from machinery.meta.resource import Document, ObjectKey, Resource, document_key

SYNC_CHECK_S: Final = 0.2
"""How soon to look again for the first list of a kind."""
LAZY: Final = "ubernetes.io/lazy-template"
"""On a binding whose policy is lazy: the template when the policy was heeded last."""


def owner(template: Document) -> Document:
    """A binding dies with its template."""
    return {
        "apiVersion": template["apiVersion"],
        "kind": template["kind"],
        "name": template["metadata"]["name"],
        "uid": template["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def resource_reference(template: Document) -> Document:
    """`spec.resource` of the binding."""
    metadata = template["metadata"]
    return {
        "apiVersion": template["apiVersion"],
        "kind": template["kind"],
        **({"namespace": metadata["namespace"]} if metadata.get("namespace") else {}),
        "name": metadata["name"],
        "uid": metadata["uid"],
    }


def wanted_spec(
    template: Document,
    policy: Policy,
    priority: int | None = None,
    scripts: Customizations = BUILT_IN,
) -> Document:
    """The part of the binding's spec that this controller writes; null removes. `priority`: of the policy's class.

    Raises InterpretationFailed where a user's script (`scripts`) does not say how many replicas there are.
    """
    spec = policy.spec
    suspension = spec.suspension
    components = customized.components(scripts, template)
    count, required = (0, None) if len(components) > 1 else customized.replicas(scripts, template)
    return {
        "resource": resource_reference(template),
        "replicas": count or None,
        "replicaRequirements": required,
        "components": components or None,
        "placement": compact(to_document(spec.placement)),
        "propagateDeps": spec.propagate_deps or None,
        "schedulerName": spec.scheduler_name,
        "failover": spec.failover,
        "conflictResolution": spec.conflict_resolution,
        "suspension": compact(to_document(suspension)) if suspension is not None else None,
        "preserveResourcesOnDeletion": spec.preserve_resources_on_deletion or None,
        "schedulePriority": None if priority is None else {"priority": priority},
    }


def compact(value: Any) -> Any:
    """Without what says nothing: null, empty text, empty list, false and zero of a view's defaults."""
    if isinstance(value, Mapping):
        pairs = ((key, compact(inner)) for key, inner in value.items())
        return {key: inner for key, inner in pairs if inner or inner == {} and value[key]}
    if isinstance(value, list | tuple):
        return [compact(inner) for inner in value]
    return value


def plan(
    template: Document | None,
    claim: Claim | None,
    binding: ResourceBinding | None,
    held: Document | None,
    demands: str | None = None,
    classes: Mapping[str, int] = {},
    scripts: Customizations = BUILT_IN,
) -> list[Action]:
    """`held` is the binding as a document, `binding` the view of the same; `demands` the annotation for the placer.

    `classes`: the values of the PriorityClasses by name; `scripts`: what users say of kinds.
    """
    if binding is not None and binding.deleting:
        return []
    if template is None or not propagatable(template):
        if binding is None:
            return []
        return [Delete(binding_resource(binding.key), binding.key, uid=binding.metadata.uid)]
    if claim is None:
        return _unclaim(binding)
    wish = claim.policy.spec.schedule_priority
    name = wish.priority_class_name if wish is not None else ""
    if name and name not in classes:
        why = f'PriorityClass.scheduling.k8s.io "{name}" not found'
        text = f"Apply policy({claim.policy.key}) failed: {why}"
        return [_event(template, "ApplyPolicyFailed", text, "Warning")]
    try:
        spec = wanted_spec(template, claim.policy, classes.get(name), scripts)
    except InterpretationFailed as error:  # what is decided stays until a script says otherwise
        asked = "GetComponentsFailed" if error.operation == COMPONENT else "GetReplicasFailed"
        return [_event(template, asked, str(error), "Warning")]
    if held is None or binding is None:
        return [_create(template, claim.policy, spec, demands), _said(template, claim.policy)]
    if binding.spec.resource.uid != template["metadata"]["uid"]:
        return [Delete(binding_resource(binding.key), binding.key, uid=binding.metadata.uid)]
    return _changed(template, claim, binding, held, spec, demands)


def _changed(
    template: Document,
    claim: Claim,
    binding: ResourceBinding,
    held: Document,
    spec: Document,
    demands: str | None,
) -> list[Action]:
    """What the binding says and should say otherwise."""
    metadata = held["metadata"]
    asked = {DEMANDS: demands} | stated(template) | platforms.stated(template)
    seen, before = _seen(template, claim.policy), (metadata.get("annotations") or {}).get(LAZY)
    if seen is not None and before in (None, seen):
        marks = _missing(asked | {LAZY: seen}, metadata.get("annotations"))
        waits = {"metadata": {"annotations": marks}}
        return [Patch(binding_resource(binding.key), binding.key, waits)] if marks else []
    actions: list[Action] = []
    spec = spec | {"suspension": _suspension(spec["suspension"], held["spec"].get("suspension"))}
    # A merge patch would merge the old placement into the new one: the fields are replaced whole.
    ops: list[Document] = [
        _replace(("spec", name), value, held["spec"])
        for name, value in spec.items()
        if _differs(held["spec"].get(name), value)
    ]
    if ops:
        actions.append(Patch(binding_resource(binding.key), binding.key, ops, PatchType.JSON))
    claimed = _missing(claims.annotations(claim.policy), metadata.get("annotations"))
    marks = claimed | _missing(asked | {LAZY: seen}, metadata.get("annotations"))
    labels = _missing(claims.labels(claim.policy), metadata.get("labels"))
    if marks or labels:
        change = {"annotations": marks} if marks else {}
        change |= {"labels": labels} if labels else {}
        actions.append(Patch(binding_resource(binding.key), binding.key, {"metadata": change}))
    if claimed:
        actions.append(_said(template, claim.policy))
        if claim.preempted:
            said = claims.preemption_message(claim)
            actions.append(_event(template, "PreemptPolicySucceed", said))
    return actions


def _suspension(of_policy: Document | None, held: Document | None) -> Document | None:
    """The policy's suspension of dispatching; that scheduling is suspended was said on the binding, and stays."""
    if not held or "scheduling" not in held:
        return of_policy
    return (of_policy or {}) | {"scheduling": held["scheduling"]}


def _seen(template: Document, policy: Policy) -> str | None:
    """What the template asks for, in short, where its policy is lazy: as long as that stays, so does the binding."""
    if policy.spec.activation_preference != "Lazy":
        return None
    own = template["metadata"]
    told = {k: v for k, v in (own.get("annotations") or {}).items() if k not in LOCAL_ANNOTATIONS}
    asked = {k: v for k, v in template.items() if k not in ("metadata", "status")}
    text = orjson.dumps([asked, own.get("labels"), told], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:16]


def _missing(wanted: Mapping[str, str | None], held: Mapping[str, str] | None) -> Document:
    return {key: value for key, value in wanted.items() if (held or {}).get(key) != value}


def _unclaim(binding: ResourceBinding | None) -> list[Action]:
    """No policy has it any more: the claim goes, the placement stays."""
    if binding is None:
        return []
    marks = {key: None for key in claims.ANNOTATIONS if key in binding.metadata.annotations}
    labels = {key: None for key in claims.LABELS if key in binding.metadata.labels}
    if not marks and not labels:
        return []
    change = ({"annotations": marks} if marks else {}) | ({"labels": labels} if labels else {})
    return [Patch(binding_resource(binding.key), binding.key, {"metadata": change})]


def _differs(held: Any, wanted: Any) -> bool:
    return bool(held != wanted and (held or wanted))


def _replace(path: tuple[str, str], value: Any, held: Mapping[str, Any]) -> Document:
    where = "/" + "/".join(path)
    if value is None:
        return {"op": "remove", "path": where}
    return {"op": "replace" if path[-1] in held else "add", "path": where, "value": value}


def _create(template: Document, policy: Policy, spec: Document, demands: str | None) -> Action:
    metadata = template["metadata"]
    marks = claims.annotations(policy) | {DEMANDS: demands} | stated(template)
    marks |= platforms.stated(template) | {LAZY: _seen(template, policy)}
    labels = {k: v for k, v in claims.labels(policy).items() if v is not None}
    own = ObjectKey(metadata.get("namespace", ""), binding_name(template["kind"], metadata["name"]))
    resource = binding_resource(own)
    return Create(
        resource,
        {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {
                "name": own.name,
                **({"namespace": own.namespace} if own.namespace else {}),
                "annotations": {k: v for k, v in marks.items() if v is not None},
                **({"labels": labels} if labels else {}),
                "ownerReferences": [owner(template)],
            },
            "spec": {k: v for k, v in spec.items() if v is not None},
        },
        exists_ok=True,
    )


def _said(template: Document, policy: Policy) -> Action:
    return _event(template, "ApplyPolicySucceed", f"Apply policy({policy.key}) succeed")


def _event(template: Document, reason: str, message: str, level: str = "Normal") -> Action:
    about, uid = document_key(template), template["metadata"]["uid"]
    return Emit(subject(template), about, uid, level, reason, message)


class DetectorReconciler:
    """One kind of template."""

    def __init__(self, manager: Manager, resource: Resource[Document]) -> None:
        self._resource = resource
        self._executor = manager.executor
        self._templates = manager.informer(resource)
        self._policies = manager.informer(PROPAGATION_POLICIES)
        self._cluster_policies = manager.informer(CLUSTER_PROPAGATION_POLICIES)
        self._override_policies = manager.informer(OVERRIDE_POLICIES)
        self._cluster_override_policies = manager.informer(CLUSTER_OVERRIDE_POLICIES)
        self._resilience = manager.informer(RESILIENCE_POLICIES)
        self._classes = manager.informer(PRIORITY_CLASSES)
        self._scripts = Followed(manager.informer(CUSTOMIZATIONS))
        scope = scope_of(namespaced=resource.namespaced)
        self._bindings = manager.informer(scope.bindings)
        self._documents = manager.informer(scope.documents)

    async def reconcile(self, key: ObjectKey) -> Result:
        if not self._templates.synced:
            return Result(requeue_after=SYNC_CHECK_S)  # what is not known yet is not gone
        template = self._templates.get(key)
        name = ObjectKey(key.namespace, binding_name(self._resource.kind, key.name))
        claim, wanted = None, None
        binding, document = self._bindings.get(name), self._documents.get(name)
        if template is not None and propagatable(template):
            marks = binding.metadata.annotations if binding is not None else {}
            of_all = self._cluster_policies.list()
            own = self._policies.list(key.namespace) if key.namespace else []
            claim = claims.decide(template, marks, own, of_all, self._overrides(key.namespace))
            if customized.is_workload(self._scripts(), template):
                wanted = demanded(resilience(template, self._resilience.list()))
        classes = {c["metadata"]["name"]: int(c["value"]) for c in self._classes.list()}
        actions = plan(template, claim, binding, document, wanted, classes, self._scripts())
        return await self._executor.apply(actions)

    def _overrides(self, namespace: str) -> frozenset[tuple[str, str]]:
        """Namespace and name of the override policies that a claim may wait for."""
        own = self._override_policies.list(namespace) if namespace else []
        of_all = self._cluster_override_policies.list()
        return frozenset(
            (p.metadata.namespace, p.metadata.name) for p in (*own, *of_all) if not p.deleting
        )


def setup(manager: Manager) -> None:
    """One controller a template kind; a policy's change looks at every template again."""
    placed = {scope.namespaced: Placed(manager.informer(scope.bindings)) for scope in SCOPES}
    for resource in TEMPLATES:
        _ = _detect(manager, resource, placed[resource.namespaced])
    custom: dict[Resource[Document], ControllerBuilder] = {}

    def come(resource: Resource[Document]) -> None:
        custom[resource] = _detect(manager, resource, placed[resource.namespaced])

    def gone(resource: Resource[Document]) -> None:
        if (controller := custom.pop(resource, None)) is not None:
            placed[resource.namespaced].withdraw(resource)
            manager.withdraw(controller)
            manager.forget_informer(resource)

    demand_of(manager.informer).follow(come, gone)


class Placed:
    """Changes of bindings, told to the detector of the template's kind: one handler for all of them, as there are many kinds
    and bindings change often."""

    def __init__(self, bindings: Informer[ResourceBinding]) -> None:
        self._bindings = bindings
        self._of: dict[tuple[str, str], Callable[[ObjectKey], None]] = {}
        bindings.on_change(self._changed)

    def tell(self, resource: Resource[Document], enqueue: Callable[[ObjectKey], None]) -> None:
        """Call `enqueue` with the template of each binding of the kind, now and whenever the binding changes."""
        self._of[resource.api_version, resource.kind] = enqueue
        for binding in self._bindings.list():
            source = binding.spec.resource
            if (source.api_version, source.kind) == (resource.api_version, resource.kind):
                enqueue(ObjectKey(source.namespace, source.name))

    def withdraw(self, resource: Resource[Document]) -> None:
        """The kind is served no more."""
        _ = self._of.pop((resource.api_version, resource.kind), None)

    def _changed(self, old: ResourceBinding | None, new: ResourceBinding | None) -> None:
        """Of a change both are told, so that a template that is no longer the binding's hears of it; what members report of it
        is nothing to a detector."""
        if old is not None and new is not None and not wish_changed(old, new):
            return
        before = old.spec.resource if old is not None else None
        after = new.spec.resource if new is not None else None
        for source in (before, after) if before != after else (after,):
            if source is None:
                continue
            enqueue = self._of.get((source.api_version, source.kind))
            if enqueue is not None:
                enqueue(ObjectKey(source.namespace, source.name))


def _detect(manager: Manager, resource: Resource[Document], placed: Placed) -> ControllerBuilder:
    templates = manager.informer(resource)
    name = resource.plural if resource in TEMPLATES else f"{resource.plural}.{resource.group}"
    controller = manager.controller(f"detector-{name}", DetectorReconciler(manager, resource))
    everything = _all_keys(templates.list)
    controller.watches(resource, when=_asks_anew(manager))
    controller.watches(PROPAGATION_POLICIES, everything)
    controller.watches(CLUSTER_PROPAGATION_POLICIES, everything)
    controller.watches(RESILIENCE_POLICIES, everything)
    controller.watches(OVERRIDE_POLICIES, _if_waiting(manager, everything))
    controller.watches(CLUSTER_OVERRIDE_POLICIES, _if_waiting(manager, everything))
    controller.watches(PRIORITY_CLASSES, everything)
    controller.watches(CUSTOMIZATIONS, _if_of(resource, everything))
    placed.tell(resource, controller.enqueue)
    return controller


def _asks_anew(manager: Manager) -> Callable[[Any, Any], bool]:
    """Whether a template asks for something else. Its status is of no interest to us, but may be to users' scripts."""
    scripts = manager.informer(CUSTOMIZATIONS)
    return lambda old, new: wish_changed(old, new) or len(scripts) > 0


def _all_keys(templates: Any) -> Any:
    def keys(_: Any) -> list[ObjectKey]:
        return [document_key(t) for t in templates()]

    return keys


def _if_of(resource: Resource[Document], everything: Any) -> Any:
    """All templates of the kind, where users say something else of it."""

    def keys(one: ResourceInterpreterCustomization) -> list[ObjectKey]:
        same = customized.target(one) == (resource.api_version, resource.kind)
        return list(everything(one)) if same else []

    return keys


def _if_waiting(manager: Manager, everything: Any) -> Any:
    """All templates, where some policy waits for override policies; otherwise nobody cares."""
    own = manager.informer(PROPAGATION_POLICIES)
    of_all = manager.informer(CLUSTER_PROPAGATION_POLICIES)

    def keys(policy: Any) -> list[ObjectKey]:
        everybody: list[Policy] = [*own.list(), *of_all.list()]
        waiting = any(p.spec.dependent_overrides for p in everybody)
        return list(everything(policy)) if waiting else []

    return keys
