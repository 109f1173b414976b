"""References: a binding says which objects its template refers to and that do not follow it, so that nobody waits for them.

What is built in refers only to what follows. A user's interpreter may name anything: an object of another namespace, a kind that does
not follow, objects by their labels, or, of a template without a namespace, anything at all. Karmada skips what it cannot find
and logs it; here it is the condition `DependenciesFollowed` of the binding, which is there only while something stays behind,
and an Event. What does follow, follows all the same (`federation.controllers.dependencies`).
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from federation.controllers import dispatcher, placer
from federation.propagation import conditions, customized
from federation.propagation.customized import Customizations, Followed, InterpretationFailed
from federation.propagation.demand import demand_of
from federation.propagation.scopes import IN_NAMESPACES, SCOPES, Scope
from federation.propagation.sources import Sources
from federation.propagation.templates import TEMPLATES
from machinery.api.fleet.interpretation import CUSTOMIZATIONS, DEPENDENCY
from machinery.api.fleet.work import ResourceBinding
from machinery.controller.action import Action, Result
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import condition
from machinery.meta.resource import Document, ObjectKey, Resource

CONDITION: Final = "DependenciesFollowed"
LEFT, FAILED = "NotFollowed", "InterpreterFailed"
TOLD_MAX: Final = 5
"""References that a message names; of the others the number."""


def concerned(binding: ResourceBinding, scripts: Customizations) -> bool:
    """Whether there is, or was, something to say."""
    if binding.deleting:
        return False
    source = binding.spec.resource
    asked = binding.spec.propagate_deps and scripts.script(
        (source.api_version, source.kind), DEPENDENCY
    )
    return bool(asked) or condition(binding.status.conditions, CONDITION) is not None


def left_behind(scripts: Customizations, template: Document | None) -> tuple[str, str]:
    """(reason, message) of what stays behind; empty where nothing does."""
    if template is None or not scripts.answers(template, DEPENDENCY):
        return "", ""
    try:
        left = sorted(set(customized.left_behind(scripts, template)))
    except InterpretationFailed as error:
        return FAILED, f"{error}; what followed before goes on"
    more = f"; and {len(left) - TOLD_MAX} more" if len(left) > TOLD_MAX else ""
    return (LEFT, "; ".join(left[:TOLD_MAX]) + more) if left else ("", "")


def plan(binding: ResourceBinding, reason: str, message: str, now: str) -> list[Action]:
    """The condition, and an Event when its words are new."""
    held = condition(binding.status.conditions, CONDITION)
    if (held.reason, held.message) == (reason, message) if held is not None else not reason:
        return []
    fresh: Document = {
        "type": CONDITION,
        "status": "False",
        "reason": reason,
        "message": message,
        "lastTransitionTime": now,
    }
    said = conditions.told(binding, CONDITION, fresh if reason else None)
    if reason != LEFT:  # of a script that fails the controller of dependencies tells
        return [said]
    return [said, *placer.say(binding, "Warning", "DependencyNotFollowed", message)]


class ReferenceReconciler:
    """Bindings of one scope whose template users' interpreters look through."""

    def __init__(
        self, manager: Manager, scripts: Followed, sources: Sources, scope: Scope = IN_NAMESPACES
    ) -> None:
        self._clock, self._executor = manager.clock, manager.executor
        self._scripts, self._sources = scripts, sources
        self._bindings = manager.informer(scope.bindings)

    async def reconcile(self, key: ObjectKey) -> Result:
        binding, scripts = self._bindings.get(key), self._scripts()
        if binding is None or not concerned(binding, scripts):
            return Result()
        asked = binding.spec.propagate_deps
        template = self._sources.placed_by(binding) if asked else None
        reason, message = left_behind(scripts, template)
        now = rfc3339(self._clock.now())
        return await self._executor.apply(plan(binding, reason, message, now))


def setup(manager: Manager) -> None:
    """Bindings, their templates, and what users say of kinds; the same for both scopes."""
    demand = demand_of(manager.informer)
    scripts = Followed(manager.informer(CUSTOMIZATIONS))
    for scope in SCOPES:
        bindings = manager.informer(scope.bindings)
        bindings.add_index("template", dispatcher.template_key)
        reconciler = ReferenceReconciler(
            manager, scripts, Sources(manager.informer, demand=demand), scope
        )
        controller = manager.controller(scope.named("references"), reconciler)
        controller.watches(scope.bindings, _itself(scripts))
        controller.watches(CUSTOMIZATIONS, dispatcher.of_customization(bindings))
        for resource in TEMPLATES if scope.namespaced else ():
            controller.watches(resource, _of_template(resource, bindings, scripts))
        demand.follow(_come(controller, scope, bindings, scripts))


def _itself(scripts: Followed) -> Callable[[ResourceBinding], Iterable[ObjectKey]]:
    return lambda binding: [binding.key] if concerned(binding, scripts()) else []


def _come(
    controller: Any, scope: Scope, bindings: Any, scripts: Followed
) -> Callable[[Resource[Document]], None]:
    def come(resource: Resource[Document]) -> None:
        if resource.namespaced == scope.namespaced:
            controller.watches(resource, _of_template(resource, bindings, scripts))

    return come


def _of_template(
    resource: Resource[Document], bindings: Any, scripts: Followed
) -> Callable[[Document], list[ObjectKey]]:
    def keys(template: Document) -> list[ObjectKey]:
        if not scripts().answers(template, DEPENDENCY):
            return []
        metadata = template["metadata"]
        value = (resource.kind, metadata.get("namespace", ""), metadata["name"])
        return [binding.key for binding in bindings.by_index("template", value)]

    return keys
