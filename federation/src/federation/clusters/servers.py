"""Several federation servers: each writes its own URL where members' agents read it, and every agent dials all of them.

Mirrors and forwarded streams need the link at the server that was asked, and behind one address nobody can choose
which server a dial reaches. So a server that returns is linked again as soon as it says so.

Limits: an entry stays until somebody deletes it; of a server that was retired for good it only costs the agents a dial
now and then. A server that listens on all addresses must be told its URL (`replicaUrl`), or it is not announced.
"""

import logging

from machinery.api.core import CONFIGMAPS
from machinery.api.fleet.servers import SERVERS
from machinery.client.interface import Client
from machinery.kit.backoff import Backoff
from machinery.kit.clock import Clock
from machinery.meta.errors import NotFound, StatusError
from machinery.meta.resource import Document

log = logging.getLogger(__name__)

RETRY = Backoff(base_s=0.2, cap_s=5.0)
REFRESH_S = 30.0
"""How often a server looks whether its entry still stands."""
_EVERYWHERE = ("", "0.0.0.0", "::", "[::]")


def own_url(listen: str, given: str) -> str:
    """How members reach this very server; empty when nobody can know."""
    host = listen.rpartition(":")[0]
    if given or host in _EVERYWHERE:
        return given
    return f"https://{listen}"


def entry(url: str) -> str:
    """The URL as a key of a ConfigMap."""
    return url.partition("://")[2].translate(str.maketrans(":[]/", "-..."))


async def announce(client: Client, clock: Clock, url: str) -> None:
    """Write the entry, and again when it is gone, for as long as this runs."""
    failures = 0
    while True:
        try:
            await _write(client, url)
        except (StatusError, ConnectionError) as error:
            failures += 1  # at the very first start the namespace is not there yet
            log.info("server not announced yet", extra={"error": str(error)})
            await clock.sleep(RETRY.delay(failures))
        else:
            failures = 0
            await clock.sleep(REFRESH_S)


async def _write(client: Client, url: str) -> None:
    data: Document = {entry(url): url}
    try:
        held = await client.get(CONFIGMAPS, SERVERS)
    except NotFound:
        metadata = {"name": SERVERS.name, "namespace": SERVERS.namespace}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        await client.create(CONFIGMAPS, body, SERVERS.namespace)
        return
    if held.data.get(entry(url)) != url:
        await client.patch(CONFIGMAPS, SERVERS, {"data": data})
