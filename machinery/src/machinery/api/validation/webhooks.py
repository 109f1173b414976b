"""Whether webhook configurations may be stored, and the parts that policies and definitions share with them: rules, conditions, clients."""

from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from machinery.api.match_conditions import condition_fault
from machinery.api.validation import listed
from machinery.api.validation.causes import Causes
from machinery.api.validation.selectors import label_selector
from machinery.meta import names
from machinery.meta.resource import Document

REVIEW_VERSIONS: Final = ("v1", "v1beta1")
OPERATIONS: Final = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
SCOPES: Final = ("*", "Cluster", "Namespaced")
FAILURE_POLICIES: Final = ("Fail", "Ignore")
MATCH_POLICIES: Final = ("Equivalent", "Exact")
REINVOCATIONS: Final = ("IfNeeded", "Never")
SIDE_EFFECTS: Final = ("None", "NoneOnDryRun")
CONDITIONS_MAX: Final = 64
_FORM: Final = "; desired format: https://host[/path]"


def mutating(document: Document, causes: Causes) -> None:
    """A MutatingWebhookConfiguration."""
    _configuration(document, causes, _reinvocation)


def validating(document: Document, causes: Causes) -> None:
    """A ValidatingWebhookConfiguration."""
    _configuration(document, causes, lambda _hook, _field, _causes: None)


def _configuration(
    document: Document, causes: Causes, more: Callable[[Document, str, Causes], None]
) -> None:
    seen: set[str] = set()
    for index, hook in enumerate(document.get("webhooks") or ()):
        at = f"webhooks[{index}]"
        _webhook(hook, at, causes, more)
        given = hook.get("admissionReviewVersions") or []
        _review_versions(given, f"{at}.admissionReviewVersions", causes)
        name = hook.get("name") or ""
        if name and name in seen:
            causes.duplicate(f"{at}.name", name)
        seen.add(name)


def _webhook(
    hook: Document, at: str, causes: Causes, more: Callable[[Document, str, Causes], None]
) -> None:
    full_name(hook.get("name") or "", f"{at}.name", causes)
    for index, rule in enumerate(hook.get("rules") or ()):
        rule_with_operations(rule, f"{at}.rules[{index}]", causes)
    for key, valid in (("failurePolicy", FAILURE_POLICIES), ("matchPolicy", MATCH_POLICIES)):
        if (value := hook.get(key)) is not None:
            causes.one_of(f"{at}.{key}", value, valid)
    effects = hook.get("sideEffects")
    if effects is None:
        causes.required(f"{at}.sideEffects", f"must specify one of {', '.join(SIDE_EFFECTS)}")
    else:
        causes.one_of(f"{at}.sideEffects", effects, SIDE_EFFECTS)
    seconds = hook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= 30:
        text = "the timeout value must be between 1 and 30 seconds"
        causes.invalid(f"{at}.timeoutSeconds", seconds, text)
    label_selector(hook.get("namespaceSelector"), f"{at}.namespaceSelector", causes)
    label_selector(hook.get("objectSelector"), f"{at}.objectSelector", causes)
    more(hook, at, causes)
    client_config(hook.get("clientConfig") or {}, f"{at}.clientConfig", causes)
    match_conditions(hook.get("matchConditions") or (), f"{at}.matchConditions", causes)


def _reinvocation(hook: Document, at: str, causes: Causes) -> None:
    if (value := hook.get("reinvocationPolicy")) is not None:
        causes.one_of(f"{at}.reinvocationPolicy", value, REINVOCATIONS)


def full_name(name: str, field: str, causes: Causes) -> None:
    """A domain of at least three labels."""
    if not name:
        causes.required(field)
    elif complaints := names.dns_subdomain(name):
        causes.invalid(field, name, ",".join(complaints))
    elif len(name.split(".")) < 3:
        text = "should be a domain with at least three segments separated by dots"
        causes.invalid(field, name, text)


def _review_versions(versions: Sequence[str], field: str, causes: Causes) -> None:
    accepted = ", ".join(REVIEW_VERSIONS)
    if not versions:
        causes.required(field, f"must specify one of {accepted}")
        return
    none = f"must include at least one of {accepted}"
    listed.review_versions(versions, REVIEW_VERSIONS, field, none, causes)


# ---------------------------------------------------------------------------------------------------------------- rules
def rule_with_operations(rule: Document, field: str, causes: Causes) -> None:
    """A RuleWithOperations; subresources may be named."""
    operations = rule.get("operations") or []
    if not operations:
        causes.required(f"{field}.operations")
    if len(operations) > 1 and "*" in operations:
        text = "if '*' is present, must not specify other operations"
        causes.invalid(f"{field}.operations", operations, text)
    for index, operation in enumerate(operations):
        causes.one_of(f"{field}.operations[{index}]", operation, OPERATIONS)
    _named(rule.get("apiGroups") or [], f"{field}.apiGroups", "API groups", causes)
    versions = rule.get("apiVersions") or []
    _named(versions, f"{field}.apiVersions", "API versions", causes)
    for index, version in enumerate(versions):
        if not version:
            causes.required(f"{field}.apiVersions[{index}]")
    _resources(rule.get("resources") or [], f"{field}.resources", causes)
    if (scope := rule.get("scope")) is not None:
        causes.one_of(f"{field}.scope", scope, SCOPES)


def _named(given: Sequence[str], field: str, what: str, causes: Causes) -> None:
    if not given:
        causes.required(field)
    if len(given) > 1 and "*" in given:
        causes.invalid(field, given, f"if '*' is present, must not specify other {what}")


def _resources(resources: Sequence[str], field: str, causes: Causes) -> None:
    if not resources:
        causes.required(field)
    whole: set[str] = set()
    everywhere: set[str] = set()
    bare = False
    for index, text in enumerate(resources):
        at = f"{field}[{index}]"
        if not text:
            causes.required(at)
            continue
        resource, slash, below = text.partition("/")
        if not slash:
            bare = text != "*"
            continue
        if resource in whole:
            detail = f"if '{resource}/*' is present, must not specify {text}"
            causes.invalid(at, text, detail)
        if below in everywhere:
            causes.invalid(at, text, f"if '*/{below}' is present, must not specify {text}")
        if below == "*":
            whole.add(resource)
        if resource == "*":
            everywhere.add(below)
    if len(resources) > 1 and "*/*" in resources:
        text = "if '*/*' is present, must not specify other resources"
        causes.invalid(field, resources, text)
    if "*" in resources and bare:
        text = "if '*' is present, must not specify other resources without subresources"
        causes.invalid(field, resources, text)


def match_conditions(conditions: Sequence[Document], field: str, causes: Causes) -> None:
    """Conditions in CEL, each with a name of its own."""

    def compiled(index: int, at: str, expression: str) -> None:
        if index < CONDITIONS_MAX and (fault := condition_fault(expression.strip())):
            causes.invalid(at, expression, fault)

    listed.named_conditions(conditions, field, CONDITIONS_MAX, compiled, causes)


# -------------------------------------------------------------------------------------------------------------- clients
def client_config(config: Document, field: str, causes: Causes) -> None:
    """Where a webhook listens: a URL or a service."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        causes.required(field, "exactly one of url or service is required")
    elif url is not None:
        _url(url, f"{field}.url", causes)
    elif service is not None:
        _service(service, f"{field}.service", causes)


def _url(url: str, field: str, causes: Causes) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        causes.required(field, f"url must be a valid URL: {error}{_FORM}")
        return
    if parts.scheme != "https":
        causes.invalid(field, parts.scheme, "'https' is the only allowed URL scheme" + _FORM)
    user, at, host = parts.netloc.rpartition("@")
    if not host:
        causes.invalid(field, host, "host must be specified" + _FORM)
    if at:
        causes.invalid(field, user, "user information is not permitted in the URL")
    if parts.fragment:
        causes.invalid(field, parts.fragment, "fragments are not permitted in the URL")
    if parts.query:
        causes.invalid(field, parts.query, "query parameters are not permitted in the URL")


def _service(service: Document, field: str, causes: Causes) -> None:
    if not service.get("name"):
        causes.required(f"{field}.name", "service name is required")
    if not service.get("namespace"):
        causes.required(f"{field}.namespace", "service namespace is required")
    port: Any = service.get("port")
    if complaints := names.port_number(port or 0):
        causes.invalid(f"{field}.port", port, "port is not valid: " + ", ".join(complaints))
    path = service.get("path")
    if path not in (None, "", "/"):
        _path(str(path), f"{field}.path", causes)


def _path(path: str, field: str, causes: Causes) -> None:
    if path == "//":
        causes.invalid(field, path, "segment[0] may not be empty")
        return
    if not path.startswith("/"):
        causes.invalid(field, path, "must start with a '/'")
    for index, step in enumerate(path[1:].removesuffix("/").split("/")):
        if not step:
            causes.invalid(field, path, f"segment[{index}] may not be empty")
        for complaint in names.dns_subdomain(step) if step else ():
            causes.invalid(field, path, f"segment[{index}]: {complaint}")
