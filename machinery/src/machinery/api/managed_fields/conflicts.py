"""The answer to an apply that would take fields from other managers."""

from machinery.api.managed_fields.entries import UPDATE, Entry
from machinery.api.managed_fields.sets import FieldSet, path_text, paths
from machinery.meta.errors import Conflict
from machinery.meta.resource import Document


def conflict(found: list[tuple[Entry, FieldSet]]) -> Conflict:
    """409, with one cause a field. `found` pairs each other manager with the fields in dispute."""
    rows = sorted(found, key=lambda row: row[0].identity)
    causes: list[Document] = []
    lines: list[str] = []
    for entry, fields in rows:
        who = _who(entry)
        lines.append(f"conflicts with {who}:")
        for path in paths(fields):
            text = path_text(path)
            lines.append(f"- {text}")
            causes.append(
                {"reason": "FieldManagerConflict", "message": f"conflict with {who}", "field": text}
            )
    if len(causes) == 1:
        message = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
    else:
        message = f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines)
    return Conflict(message, details={"causes": causes})


def _who(entry: Entry) -> str:
    text = f'"{entry.manager}"'
    if entry.subresource:
        text += f' with subresource "{entry.subresource}"'
    if entry.operation == UPDATE:
        text += f" using {entry.api_version}"
    return text
