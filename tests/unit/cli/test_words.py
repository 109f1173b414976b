"""How people name what is placed."""

import pytest

from federation.cli.errors import CliError
from federation.cli.words import placed, workload


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("deploy/web", ("Deployment", "web")),
        ("Deployment/web", ("Deployment", "web")),
        ("clusterroles/team:reader", ("ClusterRole", "team:reader")),
        ("priorityclasses/high", ("PriorityClass", "high")),
        ("crd/guestbooks.webapp.my.domain", ("CustomResourceDefinition", "guestbooks.webapp.my.domain")),
        ("Guestbook/book", ("Guestbook", "book")),
        ("netpol/closed", ("NetworkPolicy", "closed")),
        ("storageclasses/fast", ("StorageClass", "fast")),
    ],
)  # fmt: skip
def test_what_is_placed(text: str, named: tuple[str, str]) -> None:
    assert placed(text) == named


@pytest.mark.parametrize("text", ["guestbook/book", "Guestbook", "clusterrole/", "crd"])
def test_what_names_nothing(text: str) -> None:
    with pytest.raises(CliError):
        placed(text)


def test_only_what_has_replicas_moves() -> None:
    with pytest.raises(CliError, match="policies place no kind 'clusterrole'"):
        workload("clusterrole/reader")
