"""`authorizer`: may whoever asks, or a ServiceAccount, do this? Who answers is set round an evaluation (`answering`).

RBAC knows no selectors, so `fieldSelector` and `labelSelector` change no answer, as upstream's RBAC has it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

import orjson

from machinery.api.expressions.functions.shape import (
    AUTHORIZER,
    DECISION,
    GROUP_CHECK,
    PATH_CHECK,
    RESOURCE_CHECK,
    Function,
    Value,
    made,
    text_in,
)
from machinery.meta import names


class Question(NamedTuple):
    """One check. `account` is `namespace:name` of a ServiceAccount; empty: whoever made the request."""

    verb: str
    account: str = ""
    path: str = ""
    """Of what is no resource; then all that follows is empty."""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""


Answer = Callable[[Question], tuple[bool, str]]
"""Whether it is allowed, and why."""
_ANSWER: ContextVar[Answer] = ContextVar("answer")


@contextmanager
def answering(answer: Answer) -> Iterator[None]:
    """Checks of expressions that are evaluated within go there."""
    token = _ANSWER.set(answer)
    try:
        yield
    finally:
        _ANSWER.reset(token)


def authorizer() -> Value:
    """The variable `authorizer`."""
    return made(AUTHORIZER, "{}")


def resource_check(question: Question) -> Value:
    """The variable `authorizer.requestResource`."""
    return _made(RESOURCE_CHECK, question._asdict())


def _made(kind: str, fields: dict[str, Any]) -> Value:
    return made(kind, orjson.dumps(fields).decode())


def _with(kind: str, value: Value, **fields: Any) -> Value:
    return _made(kind, {**orjson.loads(text_in(value)), **fields})


def _path(value: Value, path: str) -> Value:
    if not path.strip():
        raise ValueError("path must not be empty")
    return _with(PATH_CHECK, value, path=path)


def _resource(value: Value, resource: str) -> Value:
    if not resource.strip():
        raise ValueError("resource must not be empty")
    return _with(RESOURCE_CHECK, value, resource=resource)


def _account(value: Value, namespace: str, name: str) -> Value:
    if names.dns_subdomain(name):
        raise ValueError("Invalid service account name")
    if names.dns_label(namespace):
        raise ValueError("Invalid service account namespace")
    return _with(AUTHORIZER, value, account=f"{namespace}:{name}")


def _check(value: Value, verb: str) -> Value:
    question = Question(**{**orjson.loads(text_in(value)), "verb": verb})
    answer = _ANSWER.get(None)
    if answer is None:
        raise ValueError("authorizer is not available here")
    allowed, reason = answer(question)
    return _made(DECISION, {"allowed": allowed, "reason": reason})


def _unchanged(value: Value, _selector: str) -> Value:
    return value


FUNCTIONS: Final = (
    Function("path", "authorizer_path", (AUTHORIZER, "string"), PATH_CHECK, _path),
    Function("group", "authorizer_group", (AUTHORIZER, "string"), GROUP_CHECK, lambda one, text: _with(GROUP_CHECK, one, group=text)),
    Function("serviceAccount", "authorizer_serviceaccount", (AUTHORIZER, "string", "string"), AUTHORIZER, _account),
    Function("resource", "groupcheck_resource", (GROUP_CHECK, "string"), RESOURCE_CHECK, _resource),
    *(
        Function(name, f"resourcecheck_{name}", (RESOURCE_CHECK, "string"), RESOURCE_CHECK,
                 lambda one, text, name=name: _with(RESOURCE_CHECK, one, **{name: text}))
        for name in ("subresource", "namespace", "name")
    ),
    Function("fieldSelector", "authorizer_fieldselector", (RESOURCE_CHECK, "string"), RESOURCE_CHECK, _unchanged),
    Function("labelSelector", "authorizer_labelselector", (RESOURCE_CHECK, "string"), RESOURCE_CHECK, _unchanged),
    Function("check", "pathcheck_check", (PATH_CHECK, "string"), DECISION, _check),
    Function("check", "resourcecheck_check", (RESOURCE_CHECK, "string"), DECISION, _check),
    Function("allowed", "decision_allowed", (DECISION,), "bool", lambda one: orjson.loads(text_in(one))["allowed"]),
    Function("reason", "decision_reason", (DECISION,), "string", lambda one: orjson.loads(text_in(one))["reason"]),
    Function("errored", "decision_errored", (DECISION,), "bool", lambda _: False),
    Function("error", "decision_error", (DECISION,), "string", lambda _: ""),
)  # fmt: skip
