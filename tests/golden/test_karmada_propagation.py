"""Karmada's recorded propagation against ours: bindings, Works with their manifests, and what could not be overridden.

How it is played and what is masked: `karmada_propagation.py`, and DIFFERENCES.md.
"""

from typing import Any

import pytest
from tests.golden.karmada_propagation import plays

MIRRORS = "Pods at the federation are mirrors of members' pods; admission refuses others"
NAMESPACES = "Namespaces go into every cluster, also where a policy brings them to some, unless labelled to stay at home"
FAMILIES = "the federation gives Services no addresses, so which families they have is each cluster's to say"
KNOWN = {
    "kind-004": FAMILIES,
    "kind-007": MIRRORS,
    "override-053": MIRRORS,
    "kind-010": "an empty list of rules stays one, where Karmada's store makes null of it",
    "kindcluster-004.0": NAMESPACES,
    "kindcluster-004.1": NAMESPACES,
    "namespace-005": "all namespaces that begin with karmada- are the federation's own here",
    "kind-017": "last-applied-configuration speaks of the federation's object and does not travel",
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
