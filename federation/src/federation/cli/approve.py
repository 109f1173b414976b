"""Approve (or refuse) what a staged update waits for: `fedctl approve web-3-after-canary -n demo`.

It writes the condition `Approved` of the ApprovalRequest, as `kubectl edit --subresource=status` would. Refused, the run stops, or
rolls back where its strategy says so; what was answered stays answered.
"""

import argparse
import getpass

from federation.cli import connection
from federation.cli.errors import CliError
from machinery.api.fleet.rollouts import APPROVAL_REQUESTS, APPROVED, ApprovalRequest
from machinery.client.interface import Client
from machinery.kit.clock import SystemClock, rfc3339
from machinery.meta.errors import NotFound
from machinery.meta.objectmeta import condition, condition_document
from machinery.meta.resource import ObjectKey


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("name", help="an ApprovalRequest (kubectl get approvalrequests -A)")
    parser.add_argument("-n", "--namespace", default="default", help="default: %(default)s")
    parser.add_argument("--deny", action="store_true", help="refuse it")
    parser.add_argument("--message", default="", help="why")
    connection.add(parser)


def run(arguments: argparse.Namespace) -> int:
    """Answer it."""
    key = ObjectKey(arguments.namespace, arguments.name)
    if arguments.deny and not arguments.message:
        raise CliError("say why with --message: those who wait for the update read it")
    message = arguments.message or f"by {getpass.getuser()}"
    request = connection.call(
        arguments, lambda client: answer(client, key, message, yes=not arguments.deny)
    )
    what = "refused" if arguments.deny else "approved"
    print(
        f"{key.name} is {what}: stage {request.spec.target_stage} of {request.spec.target_update_run}."
    )
    return 0


async def answer(client: Client, key: ObjectKey, message: str, *, yes: bool) -> ApprovalRequest:
    """Raises CliError, StatusError, ConnectionError."""
    held = await _request(client, key)
    before = condition(held.status.conditions, APPROVED)
    if before is not None and before.status != "Unknown":
        said = "approved" if before.status == "True" else "refused"
        raise CliError(f"{key.name} was {said} already: {before.message}")
    fresh = {
        "type": APPROVED,
        "status": "True" if yes else "False",
        "reason": "Approved" if yes else "Denied",
        "message": message,
        "lastTransitionTime": rfc3339(SystemClock().now()),
    }
    others = [condition_document(c) for c in held.status.conditions if c.type != APPROVED]
    patch = {
        "metadata": {"resourceVersion": held.metadata.resource_version},
        "status": {"conditions": [*others, fresh]},
    }
    return await client.patch(APPROVAL_REQUESTS, key, patch, subresource="status")


async def _request(client: Client, key: ObjectKey) -> ApprovalRequest:
    try:
        return await client.get(APPROVAL_REQUESTS, key)
    except NotFound as error:
        listing = await client.list(APPROVAL_REQUESTS, key.namespace)
        waiting = sorted(
            r.metadata.name
            for r in listing.items
            if condition(r.status.conditions, APPROVED) is None
        )
        there = f"waiting there: {', '.join(waiting)}" if waiting else "none waits there"
        raise CliError(
            f"there is no approval request {key.name!r} in namespace {key.namespace}; {there}"
        ) from error
