"""Field selectors: supported fields, their values, and the two ways of refusing one."""

from typing import Any

import pytest

from machinery.api import fieldselectors
from machinery.api.fleet.kinds import FLEET
from machinery.api.kinds import BUILTIN, POD
from machinery.api.scheme import Scheme
from machinery.meta.errors import BadRequest

SCHEME = Scheme((*BUILTIN, *FLEET))


def kind(group: str, name: str, version: str = "v1") -> Any:
    found = SCHEME.by_gvk(group, version, name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("of", "field", "message"),
    [
        (("", "Pod"), "status.bogus", "field label not supported: status.bogus"),
        (("", "Namespace"), "name", "field label not supported: name"),
        (("", "Node"), "spec.podCIDR", "field label not supported: spec.podCIDR"),
        (("events.k8s.io", "Event"), "involvedObject.name", "field label not supported: involvedObject.name"),
        (
            ("apps", "Deployment"), "status.replicas",
            '"status.replicas" is not a known field selector: only "metadata.name", "metadata.namespace"',
        ),
        (("cluster.karmada.io", "Cluster", "v1alpha1"), "spec.zone", "field label not supported: spec.zone"),
    ],
)  # fmt: skip
def test_refused(of: tuple[str, ...], field: str, message: str) -> None:
    group, name, *version = of
    with pytest.raises(BadRequest) as raised:
        fieldselectors.check(kind(group, name, *version), ["metadata.name", field])
    assert raised.value.message == message


def test_values_of_a_pod() -> None:
    pod = {
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"nodeName": "node", "hostNetwork": True, "schedulerName": "s"},
        "status": {"phase": "Running", "podIPs": [{"ip": "1.1.1.1"}, {"ip": "::1"}]},
    }
    got = fieldselectors.fields_of(POD, pod)
    assert got == {
        "metadata.name": "p",
        "metadata.namespace": "n",
        "spec.nodeName": "node",
        "spec.host": "node",
        "spec.restartPolicy": "",
        "spec.schedulerName": "s",
        "spec.serviceAccountName": "",
        "spec.hostNetwork": "true",
        "status.phase": "Running",
        "status.podIP": "",
        "status.podIPs": "1.1.1.1,::1",
        "status.nominatedNodeName": "",
    }


@pytest.mark.parametrize(
    ("of", "document", "field", "expected"),
    [
        (("", "Node"), {}, "spec.unschedulable", "false"),
        (("", "Event"), {"source": {"component": "kubelet"}}, "source", "kubelet"),
        (("", "Event"), {"involvedObject": {"uid": "u"}}, "involvedObject.uid", "u"),
        (("", "Secret"), {"type": "Opaque"}, "type", "Opaque"),
        (("certificates.k8s.io", "CertificateSigningRequest"), {"spec": {"signerName": "s"}}, "spec.signerName", "s"),
    ],
)  # fmt: skip
def test_values(of: tuple[str, str], document: Any, field: str, expected: str) -> None:
    assert fieldselectors.value_of(kind(*of), document, field) == expected
    fieldselectors.check(kind(*of), [field])
