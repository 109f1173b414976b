"""Mutating and validating webhooks, asked over HTTPS: what they see, what their answers do, in which order they are asked."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.apiserver import RunningServer, running_server
from tests.support.webhook import (
    Client,
    Webhooks,
    allow,
    client_of,
    config_map,
    label,
    patch,
    register,
)  # fmt: skip

from machinery.api.webhook_kinds import MUTATING, VALIDATING
from machinery.meta.resource import Document

pytestmark = pytest.mark.integration
MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server() as running:
        yield running


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Client]:
    async with client_of(server) as found:
        yield found


def deny(**status: Any) -> Any:
    return lambda _request: {"allowed": False, **({"status": status} if status else {})}


# ----------------------------------------------------------------------------------------------------------- validating
@pytest.mark.parametrize(
    ("status", "code", "message", "reason"),
    [
        ({}, 400, 'admission webhook "no.example.com" denied the request without explanation', None),
        ({"message": "because"}, 400, 'admission webhook "no.example.com" denied the request: because', None),
        ({"reason": "Forbidden", "code": 403}, 403, 'admission webhook "no.example.com" denied the request: Forbidden', "Forbidden"),
        ({"message": "x", "code": 200, "status": "Success"}, 400, 'admission webhook "no.example.com" denied the request: x', None),
        ({"message": "x", "code": 1234}, 500, 'admission webhook "no.example.com" denied the request: x', None),
    ],
)  # fmt: skip
async def test_refusal(
    server: RunningServer, client: Client, hooks: Webhooks,
    status: Document, code: int, message: str, reason: str | None,
) -> None:  # fmt: skip
    hooks.answers["/no"] = deny(**status)
    await register(server, VALIDATING, "c", hooks.webhook("/no"))
    answer = await client.ask("POST", MAPS, config_map())
    assert (answer.status, answer.message) == (code, message)
    assert answer.body["status"] == "Failure"
    assert answer.body.get("reason") == reason
    assert (await client.ask("GET", f"{MAPS}/a")).status == 404


async def test_what_a_webhook_sees(server: RunningServer, client: Client, hooks: Webhooks) -> None:
    await register(server, VALIDATING, "c", hooks.webhook("/see", operations=["*"]))
    await client.ask("POST", f"{MAPS}?fieldManager=me", {**config_map(), "data": {"a": "b"}})
    assert hooks.paths() == ["/see"]
    review, sent = hooks.asked[0][1], hooks.requests[0]
    assert (review["kind"], review["apiVersion"]) == ("AdmissionReview", "admission.k8s.io/v1")
    assert sent.query == {"timeout": "5s"}
    assert sent.headers["User-Agent"] == "ubernetes-apiserver-webhooks"
    request = review["request"]
    assert request["kind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert request["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert (request["requestKind"], request["requestResource"]) == (
        request["kind"], request["resource"],
    )  # fmt: skip
    assert "subResource" not in request
    assert (request["name"], request["namespace"], request["operation"]) == (
        "a", "default", "CREATE",
    )  # fmt: skip
    assert request["userInfo"]["username"] == "kubernetes-admin"
    assert "system:masters" in request["userInfo"]["groups"]
    assert request["dryRun"] is False
    assert request["options"] == {
        "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me",
    }  # fmt: skip
    assert request["oldObject"] is None
    seen = request["object"]
    assert (seen["apiVersion"], seen["kind"], seen["data"]) == ("v1", "ConfigMap", {"a": "b"})
    assert seen["metadata"]["uid"]
    assert seen["metadata"]["managedFields"][0]["manager"] == "me"


async def test_update_and_delete_show_the_old_object(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    await client.ask("POST", MAPS, {**config_map(), "data": {"a": "1"}})
    await register(server, VALIDATING, "c", hooks.webhook("/see", operations=["UPDATE", "DELETE"]))
    change = {"data": {"a": "2"}}
    await client.ask("PATCH", f"{MAPS}/a", change, "application/merge-patch+json")
    request = hooks.last()
    assert request["operation"] == "UPDATE"
    assert request["options"] == {"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1"}
    assert (request["oldObject"]["data"], request["object"]["data"]) == ({"a": "1"}, {"a": "2"})
    await client.ask("DELETE", f"{MAPS}/a", {"propagationPolicy": "Background"})
    request = hooks.last()
    assert (request["operation"], request["object"]) == ("DELETE", None)
    assert request["oldObject"]["data"] == {"a": "2"}
    assert request["options"] == {
        "kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1",
        "propagationPolicy": "Background",
    }  # fmt: skip


async def test_delete_collection_asks_about_each(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    for name in ("a", "b"):
        await client.ask("POST", MAPS, config_map(name))
    hooks.answers["/del"] = lambda request: {"allowed": request["name"] == "a"}
    await register(server, VALIDATING, "c", hooks.webhook("/del", operations=["DELETE"]))
    answer = await client.ask("DELETE", MAPS)
    assert (
        answer.message
        == 'admission webhook "del.example.com" denied the request without explanation'
    )
    assert sorted(review["request"]["name"] for _, review in hooks.asked) == ["a", "b"]
    left = await client.ask("GET", MAPS)
    assert [item["metadata"]["name"] for item in left.body["items"]] == ["b"]


async def test_all_are_asked_and_the_first_refusal_counts(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    hooks.answers |= {"/b": deny(message="b"), "/c": deny(message="c")}
    listed = [hooks.webhook(path) for path in ("/a", "/b", "/c")]
    await register(server, VALIDATING, "c", *listed)
    answer = await client.ask("POST", MAPS, config_map())
    assert answer.message == 'admission webhook "b.example.com" denied the request: b'
    assert sorted(hooks.paths()) == ["/a", "/b", "/c"]


async def test_warnings_reach_the_client(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    hooks.answers["/warn"] = lambda _: {"allowed": True, "warnings": ["old\nform", "old form", "x"]}
    await register(server, VALIDATING, "c", hooks.webhook("/warn"))
    answer = await client.ask("POST", MAPS, config_map())
    assert (answer.status, answer.warnings) == (201, ["old form", "x"])


async def test_configurations_are_never_judged(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    hooks.answers["/no"] = deny()
    everything = hooks.webhook(
        "/no", groups=["*"], versions=["*"], resources=["*/*"], operations=["*"]
    )
    await register(server, VALIDATING, "c", everything)
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/c"
    assert (await client.ask("POST", MAPS, config_map())).status == 400
    assert (await client.ask("DELETE", path)).status == 200
    assert (await client.ask("POST", MAPS, config_map())).status == 201


# ------------------------------------------------------------------------------------------------------------- mutating
async def test_patches_one_after_the_other(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    """By the name of the configuration, then as they stand in it; each sees what those before have changed."""
    hooks.answers |= {
        "/one": label("one", "1"), "/two": label("two", "2"), "/three": label("three", "3"),
    }  # fmt: skip
    await register(server, MUTATING, "b", hooks.webhook("/two"), hooks.webhook("/three"))
    await register(server, MUTATING, "a", hooks.webhook("/one"))
    answer = await client.ask("POST", MAPS, config_map(own="0"))
    assert answer.body["metadata"]["labels"] == {"own": "0", "one": "1", "two": "2", "three": "3"}
    assert hooks.paths() == ["/one", "/two", "/three"]
    assert hooks.last("/two")["object"]["metadata"]["labels"] == {"own": "0", "one": "1"}
    stored = await client.ask("GET", f"{MAPS}/a")
    assert stored.body == answer.body


async def test_what_webhooks_change_is_validated_and_has_no_owner(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    hooks.answers["/bad"] = label("-", "x")
    await register(server, MUTATING, "c", hooks.webhook("/bad"))
    answer = await client.ask("POST", MAPS, config_map())
    assert answer.status == 422
    assert "metadata.labels" in answer.message
    hooks.answers["/bad"] = label("good", "x")
    answer = await client.ask("POST", MAPS, {**config_map(), "data": {"a": "b"}})
    (manager,) = answer.body["metadata"]["managedFields"]
    assert manager["fieldsV1"] == {"f:data": {".": {}, "f:a": {}}}


async def test_server_side_apply(server: RunningServer, client: Client, hooks: Webhooks) -> None:
    """The webhook's field stays though nobody applies it, and its applier owns only its own."""
    hooks.answers["/mark"] = label("mark", "x")
    await register(server, MUTATING, "c", hooks.webhook("/mark", operations=["CREATE", "UPDATE"]))
    applied = {"apiVersion": "v1", "kind": "ConfigMap", **config_map(), "data": {"a": "b"}}
    for _ in range(2):
        answer = await client.ask(
            "PATCH", f"{MAPS}/a?fieldManager=me", applied, "application/apply-patch+yaml"
        )
        assert answer.status in (200, 201)
        assert answer.body["metadata"]["labels"] == {"mark": "x"}
        (manager,) = answer.body["metadata"]["managedFields"]
        assert (manager["manager"], manager["operation"]) == ("me", "Apply")
        assert manager["fieldsV1"] == {"f:data": {"f:a": {}}}
    assert answer.status == 200
    assert [review["request"]["operation"] for _, review in hooks.asked] == ["CREATE", "UPDATE"]


async def test_broken_managers_are_put_back(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    entry = {"manager": "x", "operation": "Guess", "fieldsType": "FieldsV1", "fieldsV1": {}}
    hooks.answers["/spoil"] = lambda _: patch(
        {"op": "replace", "path": "/metadata/managedFields", "value": [entry]}
    )
    await register(server, MUTATING, "c", hooks.webhook("/spoil"))
    answer = await client.ask(
        "POST", f"{MAPS}?fieldManager=me", {**config_map(), "data": {"a": "b"}}
    )
    assert [one["manager"] for one in answer.body["metadata"]["managedFields"]] == ["me"]
    assert answer.warnings[0].startswith(".metadata.managedFields was in an invalid state")
    hooks.answers["/spoil"] = lambda _: patch(
        {
            "op": "replace",
            "path": "/metadata/managedFields",
            "value": [{**entry, "operation": "Update"}],
        }
    )
    answer = await client.ask("POST", MAPS, config_map("b"))
    assert [one["manager"] for one in answer.body["metadata"]["managedFields"]] == ["x"]


async def test_defaults_follow_a_patch_and_unknown_fields_do_not(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    container = {"name": "side", "image": "i", "unknown": 1}
    hooks.answers["/side"] = lambda _: patch(
        {"op": "add", "path": "/spec/containers/-", "value": container}
    )
    await register(server, MUTATING, "c", hooks.webhook("/side", resources=["pods"]))
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "main", "image": "i"}]}}
    answer = await client.ask("POST", "/api/v1/namespaces/default/pods", pod)
    assert answer.status == 201
    side = answer.body["spec"]["containers"][1]
    assert (side["name"], side["imagePullPolicy"]) == ("side", "Always")
    assert "unknown" not in side


async def test_generated_names(server: RunningServer, client: Client, hooks: Webhooks) -> None:
    """A mutating webhook sees no name that is not made yet; a validating one does."""
    await register(server, MUTATING, "m", hooks.webhook("/m"))
    await register(server, VALIDATING, "v", hooks.webhook("/v"))
    answer = await client.ask("POST", MAPS, {"metadata": {"generateName": "a-"}})
    name = answer.body["metadata"]["name"]
    assert name.startswith("a-")
    assert "name" not in hooks.last("/m")
    assert "name" not in hooks.last("/m")["object"]["metadata"]
    assert hooks.last("/v")["object"]["metadata"]["name"] == name
    hooks.answers["/m"] = lambda _: patch(
        {"op": "add", "path": "/metadata/name", "value": "chosen"}
    )
    answer = await client.ask("POST", MAPS, {"metadata": {"generateName": "a-"}})
    assert answer.body["metadata"]["name"] == "chosen"


async def test_a_webhook_cannot_move_an_object(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    hooks.answers["/move"] = lambda _: patch(
        {"op": "replace", "path": "/metadata/namespace", "value": "kube-system"}
    )
    await register(server, MUTATING, "c", hooks.webhook("/move"))
    answer = await client.ask("POST", MAPS, config_map())
    assert (answer.status, answer.message) == (
        400, "the namespace of the provided object does not match the namespace sent on the request",
    )  # fmt: skip


@pytest.mark.parametrize(("policy", "seen"), [("Never", 1), ("IfNeeded", 2)])
async def test_reinvocation(
    server: RunningServer, client: Client, hooks: Webhooks, policy: str, seen: int
) -> None:
    """Who wants to is asked again when a later one has changed the object; the last to change it is not."""
    hooks.answers |= {"/first": allow, "/second": label("two", "2")}
    await register(
        server, MUTATING, "c",
        hooks.webhook("/first", reinvocationPolicy=policy),
        hooks.webhook("/second", reinvocationPolicy=policy),
    )  # fmt: skip
    await client.ask("POST", MAPS, config_map())
    assert hooks.paths().count("/first") == seen
    assert hooks.paths().count("/second") == 1
    labels = hooks.last("/first")["object"]["metadata"].get("labels")
    assert labels == ({"two": "2"} if seen == 2 else None)


async def test_plugins_change_again_what_webhooks_have_changed(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    """A priority class that a webhook names is resolved, as if the client had named it."""
    values = {"value": 7, "metadata": {"name": "high"}}
    await client.ask("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", values)
    hooks.answers["/p"] = lambda _: patch(
        {"op": "add", "path": "/spec/priorityClassName", "value": "high"},
        {"op": "remove", "path": "/spec/priority"},
    )
    await register(server, MUTATING, "c", hooks.webhook("/p", resources=["pods"]))
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "main", "image": "i"}]}}
    answer = await client.ask("POST", "/api/v1/namespaces/default/pods", pod)
    assert (answer.status, answer.body["spec"]["priority"]) == (201, 7)


async def test_conditions_may_ask_the_authorizer(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    hooks.answers["/no"] = deny()
    text = "!authorizer.requestResource.check('escort').allowed() || request.name == 'a'"
    hook = hooks.webhook("/no", matchConditions=[{"name": "who", "expression": text}])
    await register(server, VALIDATING, "c", hook)
    assert (await client.ask("POST", MAPS, config_map("a"))).status == 400
    assert (await client.ask("POST", MAPS, config_map("b"))).status == 201  # masters may everything
