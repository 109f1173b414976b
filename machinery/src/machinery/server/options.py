"""The options of a write as its URL gives them, checked in upstream's words, and the warnings that travel back."""

from collections.abc import Mapping

from machinery.meta import errors
from machinery.server.call import Call
from machinery.server.deletion import dry_run_causes
from machinery.server.request import RequestInfo
from machinery.server.user import UserInfo

FIELD_VALIDATIONS = ("", "Ignore", "Strict", "Warn")
_OPTIONS_KINDS = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}


def call_of(headers: Mapping[str, str], info: RequestInfo, user: UserInfo) -> Call:
    """The circumstances of a write. Raises Invalid for options that do not exist."""
    manager = info.first("fieldManager") or headers.get("User-Agent", "").partition("/")[0]
    validation = info.first("fieldValidation")
    dry_run = info.query.get("dryRun", [])
    if validation or dry_run or "fieldManager" in info.query:
        check_options(info, validation, dry_run)
    return Call(
        user, manager or "unknown", bool(dry_run), validation or "Warn", query=info.query
    )  # fmt: skip


def check_options(info: RequestInfo, validation: str, dry_run: list[str]) -> None:
    """dryRun, fieldManager and fieldValidation as upstream checks them."""
    causes = list(dry_run_causes(dry_run))
    manager = info.first("fieldManager")
    if len(manager) > 128:
        causes.append(
            {
                "reason": "FieldValueTooLong",
                "message": "Too long: may not be more than 128 bytes",
                "field": "fieldManager",
            }
        )
    if not manager.isprintable():
        position = next(i for i, letter in enumerate(manager) if not letter.isprintable())
        causes.append(
            {
                "reason": "FieldValueInvalid",
                "message": f"Invalid value: {_go_quoted(manager)}: invalid character "
                f"U+{ord(manager[position]):04X} (at position {position})",
                "field": "fieldManager",
            }
        )
    if validation not in FIELD_VALIDATIONS and info.verb in _OPTIONS_KINDS:
        listed = ", ".join(f'"{value}"' for value in FIELD_VALIDATIONS)
        causes.append(
            {
                "reason": "FieldValueNotSupported",
                "message": f'Unsupported value: "{validation}": supported values: {listed}',
                "field": "fieldValidation",
            }
        )
    if causes:
        kind = _OPTIONS_KINDS.get(info.verb, "DeleteOptions")
        raise errors.invalid(kind, "meta.k8s.io", "", causes)


def _go_quoted(text: str) -> str:
    """A string as Go prints it: quoted, what cannot be printed escaped."""
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text.replace('"', '\\"'))
    return f'"{shown}"'


def warning_headers(warnings: list[str] | tuple[str, ...]) -> list[tuple[str, str]]:
    """RFC 7234 Warning headers, each text once."""
    return [
        ("Warning", '299 - "' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')
        for text in dict.fromkeys(warnings)
    ]
