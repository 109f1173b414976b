"""The pods of a Job: its template with the finalizer, and of an Indexed Job the index in every shape that a program may ask for. Pure."""

from typing import Any, Final

from cluster_agent.control.controllers.batch import Job
from cluster_agent.control.controllers.job.indexes import INDEX
from cluster_agent.control.controllers.job.sight import TRACKING, carried_on
from machinery.api.core import Pod
from machinery.meta.objectmeta import owner_reference
from machinery.meta.resource import Document

INDEX_VARIABLE: Final = "JOB_COMPLETION_INDEX"
PREFIX_MAX: Final = 58
"""A generated name has five letters more."""


def owner_of(job: Job) -> Document:
    """The reference that a Job's pod carries."""
    return owner_reference(Job(api_version="batch/v1", kind="Job", metadata=job.metadata))


def pod_document(job: Job, index: int | None = None, replaced: Pod | None = None) -> Document:
    """A pod of the template, to be named by the server; `replaced` is the failed one of the same index."""
    given = job.spec.template.get("metadata") or {}
    spec = job.spec.template.get("spec") or {}
    labels = dict(given.get("labels") or {})
    annotations = dict(given.get("annotations") or {})
    name = f"{job.metadata.name}-"
    if index is not None:
        labels[INDEX] = annotations[INDEX] = str(index)
        spec = _with_index(spec, f"{job.metadata.name}-{index}")
        name = f"{job.metadata.name[: PREFIX_MAX - len(f'-{index}-')]}-{index}-"
        if job.spec.backoff_limit_per_index is not None:
            annotations |= carried_on(job, replaced)
    metadata: Document = {
        "generateName": name,
        "namespace": job.metadata.namespace,
        "ownerReferences": [owner_of(job)],
        "finalizers": list(dict.fromkeys((*(given.get("finalizers") or ()), TRACKING))),
    }
    metadata |= {k: v for k, v in (("labels", labels), ("annotations", annotations)) if v}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _with_index(spec: Document, hostname: str) -> Document:
    out = {**spec, "hostname": hostname}
    for field in ("initContainers", "containers"):
        if spec.get(field):
            out[field] = [_with_variable(container) for container in spec[field]]
    return out


def _with_variable(container: Document) -> Document:
    known: list[Any] = list(container.get("env") or ())
    if any(variable.get("name") == INDEX_VARIABLE for variable in known):
        return container
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX}']"}}
    return {**container, "env": [*known, {"name": INDEX_VARIABLE, "valueFrom": source}]}
