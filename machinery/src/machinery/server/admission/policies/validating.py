"""ValidatingAdmissionPolicy: what is false is refused, warned of or noted, as the binding says.

The first refusal is told, in the order of policies and bindings; all of them are asked, because each may warn and annotate. An
expression that fails is a refusal too, unless the policy's failure policy is Ignore. Annotations reach the audit log by the call.
"""

import json
from collections.abc import Mapping
from typing import Final, NamedTuple

from machinery.api.expressions.admission import Evaluation, OutOfBudget, all_hold, fault_of
from machinery.api.expressions.compiling import CompileFault, EvaluationFault
from machinery.meta.errors import StatusError
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest
from machinery.server.admission.policies.judging import Judge, Meant, refusal
from machinery.server.admission.policies.plans import Binding, Compiled, Policy
from machinery.server.admission.policies.registered import Registered
from machinery.server.admission.seen import Seen, asked_of

MESSAGE_BYTES_MAX: Final = 5 * 1024
VALUE_LETTERS_MAX: Final = 10 * 1024
"""Of an annotation; what is longer is cut."""
FAILURE: Final = "validation.policy.admission.k8s.io/validation_failure"
_CODES: Final[Mapping[str, int]] = {
    "Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413, "Invalid": 422,
}  # fmt: skip


class Refused(NamedTuple):
    """Something that is false, or that failed."""

    number: int
    """Which validation; -1 where it was none."""
    message: str
    reason: str = ""


class ValidatingPolicies:
    """The plugin."""

    def __init__(self, registered: Registered, judge: Judge) -> None:
        self.registered = registered
        self._judge = judge

    def admit(self, request: AdmissionRequest) -> Document:
        return request.document

    def validate(self, request: AdmissionRequest) -> None:
        if self.registered.none:
            return
        concerned = self.registered.concerned(asked_of(request))
        if not concerned:
            return
        seen = Seen(request)
        verdict = _Verdict(request, seen)
        for bound in concerned:
            notes = _Notes()
            for meant in self._judge.meant(bound, seen):
                self._judged(meant, seen, verdict, notes)
            notes.publish(bound.policy.name, request.call.annotations)
        verdict.speak()

    def _judged(self, meant: Meant, seen: Seen, verdict: "_Verdict", notes: "_Notes") -> None:
        if meant.fault or meant.binding is None:
            if not meant.policy.ignores:
                verdict.denied(meant.policy, meant.binding, Refused(-1, meant.fault))
            return
        run = self._judge.evaluation(meant, seen, verdict.request.call.user)
        refusals, noted = judged(meant.policy, run)
        for refused in refusals:
            verdict.act(meant.policy, meant.binding, refused)
        for key, value, fault in noted:
            if fault:
                verdict.denied(meant.policy, meant.binding, Refused(-1, fault))
            else:
                notes.add(key, value[:VALUE_LETTERS_MAX])


# --------------------------------------------------------------------------------------------------------------- judging
Noted = tuple[str, str, str]
"""(key, value, why there is none and the write is refused)."""


def judged(policy: Policy, run: Evaluation) -> tuple[list[Refused], list[Noted]]:
    """What a policy says of a write: what is refused, what is noted."""
    try:
        if not all_hold(policy.conditions, run):
            return [], []
        refusals = _validated(policy, run)
        return refusals, _noted(policy, run)
    except EvaluationFault as fault:  # of the conditions, or nothing more may be asked
        return ([] if policy.ignores else [Refused(0, str(fault))]), []


def _validated(policy: Policy, run: Evaluation) -> list[Refused]:
    out: list[Refused] = []
    for index, (validation, program, message) in enumerate(policy.validations):
        if isinstance(program, CompileFault):
            fault = f"compilation error: {program}"
        else:
            try:
                if run.value(program) is True:
                    continue
            except OutOfBudget:
                raise
            except EvaluationFault as error:
                fault = fault_of(program, error)
            else:
                reason = validation.get("reason") or "Invalid"
                out.append(Refused(index, _message(validation, message, run), reason))
                continue
        if not policy.ignores:
            out.append(Refused(index, fault))
    return out


def _message(validation: Document, program: Compiled | None, run: Evaluation) -> str:
    """By the expression for it, else as it stands there, else the validation itself."""
    told = ""
    if program is not None and not isinstance(program, CompileFault):
        try:
            told = str(run.value(program)).strip()
        except OutOfBudget:
            raise
        except EvaluationFault:
            told = ""
        if len(told.encode()) > MESSAGE_BYTES_MAX or "\n" in told:
            told = ""
    told = told or (validation.get("message") or "").strip()
    return told or f"failed expression: {validation['expression'].strip()}"


def _noted(policy: Policy, run: Evaluation) -> list[Noted]:
    out: list[Noted] = []
    for key, program in policy.annotations:
        if isinstance(program, CompileFault):
            fault = f"compilation error: {program}"
        else:
            try:
                value = run.value(program)
            except OutOfBudget:
                raise
            except EvaluationFault as error:
                fault = fault_of(program, error)
            else:
                text = value.strip() if isinstance(value, str) else ""
                if text:
                    out.append((key, text, ""))
                continue
        if not policy.ignores:
            out.append((key, "", fault))
    return out


# --------------------------------------------------------------------------------------------------------------- telling
class _Notes:
    """Annotations of one policy, from all its bindings."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, key: str, value: str) -> None:
        values = self._found.setdefault(key, [])
        if value not in values:
            values.append(value)

    def publish(self, policy: str, annotations: dict[str, str]) -> None:
        for key, values in self._found.items():
            annotations.setdefault(f"{policy}/{key}", ", ".join(values))


class _Verdict:
    """What came of one write."""

    def __init__(self, request: AdmissionRequest, seen: Seen) -> None:
        self.request = request
        self._seen = seen
        self._first: tuple[Policy, Binding | None, Refused] | None = None

    def act(self, policy: Policy, binding: Binding, refused: Refused) -> None:
        """Do with a refusal what the binding says."""
        for action in binding.actions:
            if action == "Deny":
                self.denied(policy, binding, refused)
            elif action == "Audit":
                self._note(policy, binding, refused)
            elif action == "Warn":
                told = (
                    f"Validation failed for ValidatingAdmissionPolicy '{policy.name}' with binding '{binding.name}': "
                    f"{refused.message}"
                )
                if told not in self.request.call.warnings:
                    self.request.call.warnings.append(told)

    def denied(self, policy: Policy, binding: Binding | None, refused: Refused) -> None:
        if self._first is None:
            self._first = (policy, binding, refused)

    def _note(self, policy: Policy, binding: Binding, refused: Refused) -> None:
        told = {
            "message": refused.message, "policy": policy.name, "binding": binding.name,
            "expressionIndex": refused.number, "validationActions": list(binding.actions),
        }  # fmt: skip
        value = json.dumps([told], separators=(",", ":"), ensure_ascii=False)
        self.request.call.annotations.setdefault(FAILURE, value)

    def speak(self) -> None:
        """Raises the first refusal."""
        if self._first is None:
            return
        policy, binding, refused = self._first
        bound = f" with binding '{binding.name}'" if binding is not None else ""
        told = f"ValidatingAdmissionPolicy '{policy.name}'{bound} denied request: {refused.message}"
        answer = refusal(self.request, self._seen, told)
        reason = refused.reason or "Invalid"
        raise StatusError(
            answer["message"],
            details={**answer["details"], "causes": [{"message": told}]},
            code=_CODES.get(reason, 422),
            reason=reason,
        )
