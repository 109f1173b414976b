"""One condition of a binding by the one controller that has it: the list is shared, so it is written whole and as it was read."""

from machinery.api.fleet.work import ResourceBinding, binding_resource
from machinery.controller.action import SetStatus
from machinery.meta.objectmeta import condition_document
from machinery.meta.resource import Document


def told(binding: ResourceBinding, kind: str, fresh: Document | None) -> SetStatus:
    """Say the condition of this kind, or no more (None); beside the others of that version, or not at all (409, and the next pass)."""
    others = [condition_document(c) for c in binding.status.conditions if c.type != kind]
    return SetStatus(
        binding_resource(binding.key),
        binding.key,
        {"conditions": [*others, fresh] if fresh is not None else others},
        resource_version=binding.metadata.resource_version,
    )
