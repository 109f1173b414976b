"""How verbs name objects of users: `deploy/web`, as kubectl does."""

import difflib

from federation.cli.errors import CliError

KINDS = {
    "deployment": "Deployment",
    "deploy": "Deployment",
    "statefulset": "StatefulSet",
    "sts": "StatefulSet",
    "daemonset": "DaemonSet",
    "ds": "DaemonSet",
    "replicationcontroller": "ReplicationController",
    "rc": "ReplicationController",
    "job": "Job",
    "cronjob": "CronJob",
    "cj": "CronJob",
    "configmap": "ConfigMap",
    "cm": "ConfigMap",
    "secret": "Secret",
    "serviceaccount": "ServiceAccount",
    "sa": "ServiceAccount",
    "persistentvolumeclaim": "PersistentVolumeClaim",
    "pvc": "PersistentVolumeClaim",
    "ingress": "Ingress",
    "ing": "Ingress",
    "horizontalpodautoscaler": "HorizontalPodAutoscaler",
    "hpa": "HorizontalPodAutoscaler",
    "poddisruptionbudget": "PodDisruptionBudget",
    "pdb": "PodDisruptionBudget",
    "networkpolicy": "NetworkPolicy",
    "networkpolicies": "NetworkPolicy",
    "netpol": "NetworkPolicy",
    "limitrange": "LimitRange",
    "limits": "LimitRange",
    "role": "Role",
    "rolebinding": "RoleBinding",
}
"""What kubectl calls the kinds that policies place."""
WIDE = {
    "clusterrole": "ClusterRole",
    "clusterrolebinding": "ClusterRoleBinding",
    "priorityclass": "PriorityClass",
    "pc": "PriorityClass",
    "customresourcedefinition": "CustomResourceDefinition",
    "crd": "CustomResourceDefinition",
    "storageclass": "StorageClass",
    "sc": "StorageClass",
    "ingressclass": "IngressClass",
    "persistentvolume": "PersistentVolume",
    "pv": "PersistentVolume",
}
"""Those of objects without a namespace."""


def workload(text: str) -> tuple[str, str]:
    """Kind and name of `deploy/web`. Raises CliError."""
    word, slash, name = text.partition("/")
    word = word.lower().partition(".")[0]
    if not slash or not name:
        raise CliError(f"{text!r} names no object: say KIND/NAME, as in deploy/web")
    kind = (
        KINDS.get(word) or KINDS.get(word.removesuffix("s")) or KINDS.get(word.removesuffix("es"))
    )
    if kind is None:
        near = difflib.get_close_matches(word, list(KINDS), n=1)
        hint = f"did you mean {near[0]}/{name}?" if near else f"there is {', '.join(KINDS)}"
        raise CliError(f"policies place no kind {word!r}; {hint}")
    return kind, name


def placed(text: str) -> tuple[str, str]:
    """Kind and name of anything that is placed; of a custom kind, which only its definition knows, the kind as it is written:
    `Guestbook/book`. Raises CliError."""
    word, _, name = text.partition("/")
    plain = word.lower().partition(".")[0]
    kind = (
        WIDE.get(plain) or WIDE.get(plain.removesuffix("s")) or WIDE.get(plain.removesuffix("es"))
    )
    if kind is None and word[:1].isupper() and plain not in KINDS:
        kind = word
    return (kind, name) if kind is not None and name else workload(text)
