"""Karmada's recorded propagation against ours: bindings, Works with their manifests, and what could not be overridden.

How it is played and what is masked: `karmada_propagation.py`, and DIFFERENCES.md.
"""

from typing import Any

import pytest
from tests.golden.karmada_propagation import plays

KIND = "of a kind that policies cannot propagate yet (or that follows without a binding, as Services do)"
CLUSTER_SCOPED = "policies do not propagate cluster-scoped objects yet"
STALE = "the claim is gone from binding and Works; Karmada does not render the Works again"
KNOWN = {
    "divide-002.0": KIND,
    "divide-002.1": KIND,
    "divide-004": KIND,
    "divide-006": KIND,
    "divide-009": KIND,
    "divide-010": KIND,
    "divide-011": KIND,
    "divide-012": KIND,
    "kind-004": KIND,
    "kind-006": KIND,
    "kind-007": KIND,
    "kind-008": KIND,
    "kind-009": KIND,
    "kind-010": KIND,
    "kind-013": KIND,
    "deps-008": KIND,
    "deps-016": KIND,
    "deps-017": KIND,
    "deps-018": KIND,
    "override-052": KIND,
    "override-053": KIND,
    "override-054": KIND,
    "override-055": KIND,
    "kindcluster-002.0": CLUSTER_SCOPED,
    "kindcluster-003.0": CLUSTER_SCOPED,
    "kindcluster-004.0": CLUSTER_SCOPED,
    "kindcluster-004.1": CLUSTER_SCOPED,
    "namespace-007": CLUSTER_SCOPED,
    "namespace-005": "all namespaces that begin with karmada- are the federation's own here",
    "kind-017": "last-applied-configuration speaks of the federation's object and does not travel",
    "override-047": "the recording has no Event of the predicate that leads nowhere; ours says it",
    "claim-012.1": STALE,
    "claim-016.1": STALE,
    "ovorder-012.1": "the note of a policy that is gone goes with it; Karmada leaves it on the Work",
    "deps-010.1": "the binding of what nobody needs any more is deleted; Karmada leaves it empty",
}
"""Cases that differ, with the reason."""
PLAYS = list(plays())


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play[0]["id"])
def test_propagation_equals_karmadas(play: tuple[Any, Any, Any]) -> None:
    case, mine, wanted = play
    if case["id"] in KNOWN:
        assert mine != wanted, "strike it"
    else:
        assert mine == wanted


def test_every_listed_case_is_in_the_recording() -> None:
    assert KNOWN.keys() <= {case["id"] for case, _, _ in PLAYS}
