"""What both programs do alike when they launch an API server: addresses, certificates' names, the operator's access."""

import logging
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from machinery.client import kubeconfig
from machinery.server.app import RENEW_CHECK_S, ApiServer
from machinery.server.audit import default, policy
from machinery.server.audit.config import AuditConfig
from machinery.server.audit.files import audit_file
from machinery.server.audit.settings import AuditSettings
from machinery.server.config import SERVICE_CIDR, Listen, ServerConfig
from machinery.server.limits import LIMITS, Limits
from machinery.server.pki import Pair
from machinery.server.user import MASTERS

log = logging.getLogger(__name__)

ADMIN = "kubernetes-admin"
ADMIN_KUBECONFIG = "admin.kubeconfig"
ADMIN_DAYS = 365


def parse_listen(text: str) -> Listen:
    """`host:port`. Raises ValueError with a sentence."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"listen: {text!r} is not host:port")
    return Listen(host.strip("[]"), int(port))


def server_config(  # noqa: PLR0913 - what programs say of their server, in one place
    name: str,
    data_dir: str,
    listen: Sequence[str],
    advertise: str,
    *,
    accounts: bool = True,
    service_cidr: str = SERVICE_CIDR,
    service_templates: bool = False,
    taint_new_nodes: bool = False,
    audit: AuditConfig | None = None,
    authentication_config: str = "",
    limits: Limits = LIMITS,
) -> ServerConfig:
    """Settings of a server that keeps its keys below `data_dir`; its certificate is good for all it listens on.

    Raises ValueError with a sentence.
    """
    places = tuple(parse_listen(text) for text in listen)
    names = [*ServerConfig().serving_names, *(place.host for place in places if place.host)]
    advertised = urlsplit(advertise).hostname if advertise else None
    if advertised:
        names.append(advertised)
    return ServerConfig(
        name=name,
        listen=places,
        pki_dir=f"{data_dir}/pki",
        serving_names=tuple(dict.fromkeys(names)),
        advertise_url=advertise,
        service_accounts=accounts,
        service_cidr=service_cidr,
        service_templates=service_templates,
        taint_new_nodes=taint_new_nodes,
        audit=audit,
        authentication_config=authentication_config,
        limits=limits,
    )


def audit_config(settings: AuditSettings, data_dir: str) -> AuditConfig | None:
    """The audit log of a server whose data is in `data_dir`. Raises PolicyError, a ValueError."""
    if not settings.enabled:
        return None
    rules = policy.load(settings.policyFile) if settings.policyFile else default.policy()
    if spilled := policy.spilled(rules):
        log.warning(
            "the audit policy writes secrets into the audit log",
            extra={"policy": settings.policyFile, "resources": spilled},
        )
    return AuditConfig(
        audit_file(data_dir, settings.path),
        rules,
        settings.maxSizeMegabytes * 1_000_000,
        settings.maxBackups,
    )


def write_admin_kubeconfig(server: ApiServer, data_dir: str) -> Pair:
    """Full access for whoever can read the data directory; the certificate that is in it."""
    pair = server.client_pair(ADMIN, (MASTERS,), ADMIN_DAYS)
    access = kubeconfig.Access(
        server=server.url,
        ca=server.ca_pem.encode(),
        certificate=pair.certificate,
        key=pair.key,
    )
    path = Path(data_dir) / ADMIN_KUBECONFIG
    kubeconfig.write(path, kubeconfig.document(server.config.name, access), keep_others=False)
    return pair


async def keep_admin_kubeconfig(server: ApiServer, data_dir: str, written: Pair) -> None:
    """Write it anew at two thirds of its certificate's life, until cancelled."""
    while True:
        await server.clock.sleep(RENEW_CHECK_S)
        if (written.expiry() - server.clock.now()).total_seconds() < ADMIN_DAYS * 86400 / 3:
            written = write_admin_kubeconfig(server, data_dir)
            log.info("administrator's kubeconfig renewed", extra={"expires": str(written.expiry())})
