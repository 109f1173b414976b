"""Own kinds, beyond what their schemas say: rules between fields."""

from machinery.api.fleet.interpretation import OPERATIONS
from machinery.api.validation.causes import Causes
from machinery.meta import names
from machinery.meta.resource import Document


def resilience_policy(document: Document, causes: Causes) -> None:
    """Grants end by one field in each mode, and a domain is told apart by a label that can exist."""
    spec = document.get("spec") or {}
    if not isinstance(spec, dict):
        return
    if spec.get("mode") == "consistency" and spec.get("stopAfterDisconnect") is not None:
        causes.forbidden(
            "spec.stopAfterDisconnect",
            "in mode consistency replicas stop by grantSeconds; leave this field out",
        )
    rules = spec.get("spread")
    for index, rule in enumerate(rules if isinstance(rules, list) else []):
        key = rule.get("key") if isinstance(rule, dict) else None
        if isinstance(key, str) and key:
            causes.invalid_each(f"spec.spread[{index}].key", key, names.qualified_name(key))


def interpreter_customization(document: Document, causes: Causes) -> None:
    """Each question is answered in Lua or in CEL; without the latter in the words of Karmada's schema."""
    spec = document.get("spec")
    answers = spec.get("customizations") if isinstance(spec, dict) else None
    for operation in OPERATIONS:
        said = answers.get(operation.field) if isinstance(answers, dict) else None
        field = f"spec.customizations.{operation.field}"
        if not isinstance(said, dict):
            continue
        if "expression" not in said:
            if "luaScript" not in said:
                causes.required(f"{field}.luaScript")
        elif "luaScript" in said:
            causes.forbidden(f"{field}.expression", "it may not be set beside luaScript")
        elif not said["expression"]:
            causes.required(f"{field}.expression")
