"""Whether a toleration covers a taint: asked of nodes by the scheduler, and of whole clusters by the federation.

A module of its own, so that the federation's server is not made to load numpy for it.
"""

from machinery.api.core import Taint, Toleration


def tolerates(tolerations: tuple[Toleration, ...], taint: Taint) -> bool:
    """Whether one of the tolerations covers the taint (corev1.Toleration.ToleratesTaint)."""
    return any(_covers(toleration, taint) for toleration in tolerations)


def _covers(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    match toleration.operator:
        case "Exists":
            return True
        case "" | "Equal":
            return toleration.value == taint.value
        case "Gt" | "Lt":
            return _compares(toleration, taint)
        case _:
            return False


def _compares(toleration: Toleration, taint: Taint) -> bool:
    try:
        held, bound = int(taint.value), int(toleration.value)
    except ValueError:
        return False
    return held > bound if toleration.operator == "Gt" else held < bound
