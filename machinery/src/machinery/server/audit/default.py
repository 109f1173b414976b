"""The policy of those who give none: who changed what, and who entered what, without any bodies.

Left out is what would bury it: reads, questions in the form of a create, heartbeats and Events, and the statuses that
machines and our own controllers report. Nothing is above Metadata, so no content of any object, Secrets first of all, can
come into the file.
"""

from machinery.api.fleet.kinds import FLEET
from machinery.api.kinds import BUILTIN
from machinery.meta.resource import Document
from machinery.server.audit.policy import API_VERSION, Policy, of_document
from machinery.server.pki import AGENTS
from machinery.server.user import LOOPBACK, NODES

_REVIEWS = ["placementplans", "placementexplanations", "decisionreplays", "capacityestimates"]
_STREAMS = [
    "pods/exec", "pods/attach", "pods/portforward", "pods/proxy", "services/proxy", "nodes/proxy",
]  # fmt: skip


_CONCLUSIONS = [
    {"group": "", "resources": ["pods/binding", "endpoints"]},
    {"group": "discovery.k8s.io", "resources": ["endpointslices"]},
]
"""What our own controllers write beside statuses that nobody would ask them about."""


def document() -> Document:
    """The built-in Policy."""
    reports = [
        {"group": group, "resources": ["*/status"]}
        for group in sorted({kind.group for kind in (*BUILTIN, *FLEET)})
    ]
    return {
        "apiVersion": API_VERSION,
        "kind": "Policy",
        "rules": [
            # streams tell of their beginning, too: they may last for days
            {"level": "Metadata", "resources": [{"group": "", "resources": _STREAMS}]},
            {"level": "None", "verbs": ["get", "list", "watch", "head", "options"]},
            {
                "level": "None",
                "resources": [
                    {"group": "coordination.k8s.io", "resources": ["leases"]},
                    {"group": "", "resources": ["events"]},
                    {"group": "events.k8s.io", "resources": ["events"]},
                    {"group": "authorization.k8s.io"},
                    {"group": "authentication.k8s.io"},
                    {"group": "ubernetes.io", "resources": _REVIEWS},
                ],
            },
            {"level": "None", "userGroups": [NODES, AGENTS], "resources": reports},
            {"level": "None", "users": [LOOPBACK.name], "resources": [*reports, *_CONCLUSIONS]},
            {"level": "Metadata", "omitStages": ["RequestReceived"]},
        ],
    }


def policy() -> Policy:
    """It, ready to be asked."""
    return of_document(document())
