"""Accept headers of real clients."""

import pytest

from machinery.meta.errors import NotAcceptable
from machinery.server.negotiate import Accepted, Form, media_type, negotiate

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
DISCOVERY = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", Accepted()),
        ("*/*", Accepted()),
        ("application/json", Accepted()),
        (TABLE, Accepted(Form.TABLE)),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", Accepted(Form.TABLE, version="v1beta1")),
        ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json", Accepted(Form.PARTIAL)),
        ("application/vnd.kubernetes.protobuf,application/json", Accepted()),
        ("application/yaml", Accepted(yaml=True)),
        ("text/html, application/json;q=0.5, */*;q=0.1", Accepted()),
        ("application/json;q=0, application/yaml", Accepted(yaml=True)),
        (DISCOVERY, Accepted(discovery="v2")),
        ("application/json;as=Nonsense;g=meta.k8s.io;v=v1, application/json", Accepted()),
    ],
)  # fmt: skip
def test_served(accept: str, expected: Accepted) -> None:
    assert negotiate(accept) == expected


@pytest.mark.parametrize(
    "accept", ["application/vnd.kubernetes.protobuf", "text/html", "application/cbor"]
)
def test_refused(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="only the following media types are accepted"):
        negotiate(accept)


def test_a_watch_is_not_yaml() -> None:
    with pytest.raises(NotAcceptable, match="application/json;stream=watch"):
        negotiate("application/yaml", streaming=True)
    assert negotiate("application/json;stream=watch", streaming=True) == Accepted()


@pytest.mark.parametrize(
    ("header", "expected"),
    [("", ""), ("application/json", "application/json"), ("Application/JSON; charset=utf-8", "application/json")],
)  # fmt: skip
def test_media_type(header: str, expected: str) -> None:
    assert media_type(header) == expected
