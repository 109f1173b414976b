"""How verbs reach the federation's API: the same two options everywhere, and errors that one can act on."""

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

from federation.cli.errors import CliError
from machinery.api.fleet.cluster import CLUSTERS, Cluster, taint_document
from machinery.api.fleet.work import (
    CLUSTER_RESOURCE_BINDINGS,
    RESOURCE_BINDINGS,
    ResourceBinding,
)
from machinery.client import kubeconfig
from machinery.client.interface import Client
from machinery.meta.errors import NotFound, StatusError
from machinery.meta.resource import Document, ObjectKey

T = TypeVar("T")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--kubeconfig",
        default=os.environ.get("KUBECONFIG", ""),
        help="the federation's administrator (default: $KUBECONFIG, else ~/.kube/config)",
    )
    parser.add_argument("--context", default="federation", help="default: %(default)s")


def call(arguments: argparse.Namespace, work: Callable[[Client], Awaitable[T]]) -> T:
    """Do `work` with a client. Raises CliError."""
    paths = (arguments.kubeconfig or os.path.expanduser("~/.kube/config")).split(":")
    try:
        access = kubeconfig.load(paths, arguments.context)
        return asyncio.run(_with(access, work))
    except (kubeconfig.KubeconfigError, ConnectionError) as error:
        raise CliError(str(error)) from error
    except StatusError as error:
        raise CliError(f"the federation refused: {error}") from error


async def _with(access: kubeconfig.Access, work: Callable[[Client], Awaitable[T]]) -> T:
    client = access.client(field_manager="fedctl")
    try:
        return await work(client)
    finally:
        await client.close()


async def cluster(client: Client, name: str) -> Cluster:
    """The member. Raises CliError when there is none of that name."""
    try:
        return await client.get(CLUSTERS, ObjectKey("", name))
    except NotFound as error:
        known = sorted(c.metadata.name for c in (await client.list(CLUSTERS)).items)
        raise CliError(
            f"there is no cluster {name!r}; there is {', '.join(known) or 'none'}"
        ) from error


def taints(held: Cluster, without: frozenset[str], more: list[Document]) -> Document:
    """A patch of the taints: those with a key in `without` go, `more` come; compare-and-swap."""
    kept = [taint_document(taint) for taint in held.spec.taints if taint.key not in without]
    return {
        "metadata": {"resourceVersion": held.metadata.resource_version},
        "spec": {"taints": [*kept, *more] or None},
    }


async def bindings(client: Client) -> list[ResourceBinding]:
    """Of objects in namespaces and of objects of a cluster."""
    everywhere = (await client.list(CLUSTER_RESOURCE_BINDINGS)).items
    return [*(await client.list(RESOURCE_BINDINGS)).items, *everywhere]


def placed(binding: ResourceBinding) -> str:
    """`demo/web`, or the name alone of what is in no namespace."""
    source = binding.spec.resource
    return f"{source.namespace}/{source.name}" if source.namespace else source.name
