"""MutatingAdmissionPolicy: the object is changed, policy after policy, before webhooks see it.

Where one has changed it, all that may change it runs once more, and then those policies that want it (IfNeeded) and had been asked
before the change; webhooks that change it ask them likewise. A mutation that fails refuses the write, unless the policy's failure
policy is Ignore; the others go on, and all failures are told.
"""

from typing import Final, NamedTuple

from machinery.api import decode, defaults
from machinery.api.expressions.admission import Evaluation, all_hold, fault_of
from machinery.api.expressions.compiling import EvaluationFault, Program
from machinery.meta.errors import BadRequest, Forbidden, ServiceUnavailable, internal
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest
from machinery.server.admission.policies.judging import Judge, Meant, refusal
from machinery.server.admission.policies.patching import Unfit, applied, patched
from machinery.server.admission.policies.plans import Compiled
from machinery.server.admission.policies.registered import Registered
from machinery.server.admission.seen import Seen, asked_of

Key = tuple[str, str, str, str]
_APPLY: Final = "ApplyConfiguration"


class Failed(NamedTuple):
    """A mutation that was not made."""

    message: str
    reason: str = ""


class Rounds:
    """What is remembered of a write between the first round and the next."""

    def __init__(self) -> None:
        self.asked_before: set[Key] = set()
        self.ask_again: set[Key] = set()
        self.left: Document | None = None
        """What the last round left."""

    def again(self) -> None:
        """The object is another one: whoever wants to see it again has been asked before."""
        self.ask_again |= self.asked_before
        self.asked_before = set()


class MutatingPolicies:
    """The plugin."""

    def __init__(self, registered: Registered, judge: Judge) -> None:
        self.registered = registered
        self._judge = judge

    def validate(self, request: AdmissionRequest) -> None:
        return None

    def admit(self, request: AdmissionRequest) -> Document:
        if self.registered.none:
            return request.document
        concerned = self.registered.concerned(asked_of(request))
        if not concerned or request.verb == "delete":
            return request.document
        rounds: Rounds = request.rounds or Rounds()
        request.rounds = rounds
        if request.reinvoked and request.document != rounds.left:
            rounds.again()
        failures: list[Failed] = []
        for bound in concerned:
            for meant in list(self._judge.meant(bound, Seen(request))):
                failures += self._mutated(meant, request, rounds)
        rounds.left = request.document
        if failures:
            raise _refused(request, failures)
        return request.document

    def _mutated(self, meant: Meant, request: AdmissionRequest, rounds: Rounds) -> list[Failed]:
        policy, binding = meant.policy, meant.binding
        ignores = policy.ignores
        if meant.fault or binding is None:
            return [] if ignores else [Failed(_told(meant, meant.fault))]
        seen = Seen(request)
        run = self._judge.evaluation(meant, seen, request.call.user)
        try:
            if not all_hold(policy.conditions, run):
                return []
        except EvaluationFault as fault:
            return [] if ignores else [Failed(_told(meant, str(fault)), "Invalid")]
        key = _key(meant)
        if request.reinvoked and key not in rounds.ask_again:
            return []
        before = request.document
        failures = []
        for kind, program in policy.mutations:
            try:
                self._mutate(meant, request, kind, program, run)
            except (Unfit, EvaluationFault) as fault:
                if not ignores:
                    failures.append(Failed(_told(meant, str(fault)), "Invalid"))
            run = self._judge.evaluation(meant, Seen(request), request.call.user)
        if request.document != before:
            rounds.again()
            request.again = not request.reinvoked
        if policy.again:
            rounds.asked_before.add(key)
        return failures

    def _mutate(
        self, meant: Meant, request: AdmissionRequest, sort: str, program: Compiled, run: Evaluation
    ) -> None:
        """Changes `request.document`. Raises Unfit, EvaluationFault, StatusError."""
        seen = Seen(request)
        before = seen.shown(seen.document, meant.kind)
        if before is None:
            return
        body = seen.body_kind(meant.kind)
        if body is None:
            group, version, kind = seen.gvk(meant.kind)
            raise ServiceUnavailable(
                f"Resource kind {group}/{version}, Kind={kind} not found. There can be a delay between when "
                "CustomResourceDefinitions are created and when they are available."
            )
        made = _value(program, run)
        after = applied(body, before, made) if sort == _APPLY else patched(before, made)
        if after == before:
            return
        try:
            tidy = decode.check_fields(body, after, "Strict")[0]
        except BadRequest as error:
            raise internal(error.message) from None
        full = defaults.apply_defaults(body, tidy)
        request.document = seen.written(seen.taken(full, meant.kind))


def _value(program: Compiled, run: Evaluation) -> object:
    if not isinstance(program, Program):
        raise EvaluationFault(str(program))
    try:
        return run.value(program)
    except EvaluationFault as fault:
        raise EvaluationFault(fault_of(program, fault)) from None


def _key(meant: Meant) -> Key:
    metadata = (meant.params or {}).get("metadata") or {}
    binding = "" if meant.binding is None else meant.binding.name
    return (meant.policy.name, binding, metadata.get("namespace", ""), metadata.get("name", ""))


def _told(meant: Meant, why: str) -> str:
    if meant.binding is None:
        return f'policy "{meant.policy.name}" denied request: {why}'
    return f"policy '{meant.policy.name}' with binding '{meant.binding.name}' denied request: {why}"


def _refused(request: AdmissionRequest, failures: list[Failed]) -> Forbidden:
    """With the first failure as its message; the code stays 403, as upstream has it."""
    answer = refusal(request, Seen(request), "admission request denied by policy")
    first = failures[0]
    return Forbidden(
        first.message,
        details={**answer["details"], "causes": [{"message": one.message} for one in failures]},
        reason=first.reason or None,
    )
