"""What a refusal quotes of a patched object: Go's order where the patch did not reach, sorted where it did."""

from machinery.api.kinds import BUILTIN
from machinery.api.patch import echo, merge
from machinery.meta.resource import Document

DEPLOYMENT = next(kind for kind in BUILTIN if kind.kind == "Deployment")
LIVE: Document = {
    "kind": "Deployment",
    "apiVersion": "apps/v1",
    "metadata": {"uid": "u", "name": "d", "labels": {"b": "1", "a": "2"}},
    "spec": {"template": {"spec": {"containers": []}, "metadata": {}}, "replicas": 1},
}


def test_untouched_levels_are_structs_and_touched_ones_maps() -> None:
    patched = merge.apply(LIVE, {"spec": {"foo": 1}})
    assert echo.text(DEPLOYMENT.schema_name, patched, LIVE) == (
        '{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d","uid":"u",'
        '"labels":{"a":"2","b":"1"}},"spec":{"foo":1,"replicas":1,"template":{"metadata":{},'
        '"spec":{"containers":[]}}}}'
    )


def test_sets_of_fields_are_sorted() -> None:
    rows = [{"manager": "m", "fieldsV1": {"f:b": {"f:d": {}, ".": {}}, "f:a": {}}}]
    live = {**LIVE, "metadata": {"managedFields": rows}}
    text = echo.text(DEPLOYMENT.schema_name, live, live)
    assert '"fieldsV1":{"f:a":{},"f:b":{".":{},"f:d":{}}}' in text
