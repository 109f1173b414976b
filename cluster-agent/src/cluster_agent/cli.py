"""`cluster-agent`: one command, several programs; a branch imports only the program it starts.

control   the member's API, controllers, scheduler, and its link to the federation
node      kubelet of this machine
join      ask the federation for this cluster's identity, before control runs for the first time
backup    this cluster's whole state into one file; restore makes an empty data directory of it
link      make a cluster that runs already (EKS, GKE, k3s, any Kubernetes) a member: the link alone, beside it
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster_agent import __version__
from machinery.kit import config as settings
from machinery.kit import log as logs
from machinery.kit.clock import SystemClock
from machinery.kit.config import ConfigError
from machinery.kit.ids import SystemIds
from machinery.meta.resource import Document, Resource
from machinery.server.audit.settings import AuditSettings

if TYPE_CHECKING:
    from cluster_agent.control.app import Control
    from cluster_agent.link.app import Link
    from cluster_agent.link.foreign import ForeignConfig
    from cluster_agent.link.identity import FederationAccess
    from cluster_agent.link.member import Resolve
    from cluster_agent.link.report import Kinds, Place
    from cluster_agent.node.config import NodeConfig

KUBERNETES_VERSION = "v1.36.2+ubernetes"


@dataclass(frozen=True, slots=True)
class FederationFile:
    """The part `federation:` of a control file."""

    url: str = ""
    """https://host:port of the federation."""
    caFile: str = ""  # noqa: N815 - the file's own spelling
    """PEM of the federation's CA."""
    token: str = field(default="", repr=False)
    """Bootstrap token; only needed until the member has its certificate."""


@dataclass(frozen=True, slots=True)
class ControlFile:
    """The file of `cluster-agent control --config`."""

    cluster: str
    """Name of the cluster: one DNS label."""
    dataDir: str  # noqa: N815
    """Store, keys, admin.kubeconfig."""
    listen: tuple[str, ...] = ("127.0.0.1:6443",)
    """host:port of the API, one or more."""
    advertise: str = ""
    """URL under which nodes and people reach the API."""
    provider: str = ""
    """Who runs the machines."""
    region: str = ""
    """Where the zone lies."""
    zone: str = ""
    """The failure domain; several are joined by commas."""
    databaseUrl: str = ""  # noqa: N815
    """postgresql://… ; default: SQLite in dataDir."""
    serviceCidr: str = "10.96.0.0/16"  # noqa: N815
    """Cluster addresses of Services, IPv4, IPv6 or both by a comma; unlike any other member's."""
    clustersetCidr: str = ""  # noqa: N815
    """Addresses of Services of the whole fleet, as this member gives them, IPv4, IPv6 or both by a comma. Empty: none."""
    authenticationConfig: str = ""  # noqa: N815
    """File with an AuthenticationConfiguration: identity providers whose tokens are believed."""
    encryptionConfig: str = ""  # noqa: N815
    """File with an EncryptionConfiguration: what lies encrypted in the database."""
    audit: AuditSettings = AuditSettings()
    """The audit log: enabled, path, policyFile, maxSizeMegabytes, maxBackups."""
    federation: FederationFile = FederationFile()
    """The federation to be a member of; without a URL the cluster stands alone."""


@dataclass(frozen=True, slots=True)
class NodeFile:
    """The file of `cluster-agent node --config`."""

    node: str
    """The Node's name; with hollow nodes their stem."""
    server: str
    """URL of the member's API."""
    caFile: str  # noqa: N815
    """PEM of the member's CA."""
    stateDir: str  # noqa: N815
    """Keys, checkpoints, volumes, logs."""
    cluster: str = ""
    zone: str = ""
    region: str = ""
    """Where the node stands."""
    token: str = field(default="", repr=False)
    """Bootstrap token; only needed until the node has its certificate."""
    kubeconfig: str = ""
    """An access that is used as it is: several hollow nodes share one."""
    runtime: str = "containerd"
    """`containerd` or `hollow`."""
    containerdSocket: str = "/run/containerd/containerd.sock"  # noqa: N815
    podCIDR: str = ""  # noqa: N815
    """Addresses of this node's pods."""
    nodeIP: str = "127.0.0.1"  # noqa: N815
    """Where the API server reaches the kubelet."""
    hollowNodes: int = 0  # noqa: N815
    """How many hollow nodes this process plays; 0 with a real runtime."""
    kubeletPort: int = 10250  # noqa: N815
    serviceCidr: str = ""  # noqa: N815
    """The member's range of cluster addresses: the node's proxy serves them. Empty: no proxy."""
    clustersetCidr: str = ""  # noqa: N815
    """The member's range of addresses for Services of the fleet: proxy, name server and gateway serve them. Empty: not."""
    dnsAddress: str = ""  # noqa: N815
    """Link-local address of the node's name server, such as 169.254.20.10. Empty: no name server."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="cluster-agent", description=__doc__)
    top.formatter_class = argparse.RawDescriptionHelpFormatter
    top.add_argument("--version", action="version", version=f"cluster-agent {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, text in (("control", "run the control plane"), ("node", "run the node")):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("--config", required=True, help="YAML file")
        verb.add_argument("--log-level", default="info", help="debug, info, warning, error")
        verb.add_argument("--log-file", default=None, help="default: standard error")
    join = verbs.add_parser("join", help="get this cluster's identity from a federation")
    join.add_argument("--cluster", required=True, help="the name that `fedctl join` was given")
    join.add_argument("--federation", required=True, help="https://host:port")
    join.add_argument("--token", required=True, help="as printed by `fedctl join`")
    join.add_argument("--ca-file", default="", help="PEM of the federation's CA")
    join.add_argument("--ca-data", default="", help="the same, base64")
    join.add_argument("--data-dir", required=True, help="dataDir of the control plane")
    for name, text in (("backup", "the cluster's state into one file"), ("restore", "and back")):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("file", help="the backup")
        verb.add_argument("--config", required=True, help="YAML file of the control plane")
    _add_link(verbs.add_parser("link", help="make a cluster that runs already a member"))
    return top


def _add_link(link: argparse.ArgumentParser) -> None:
    link.add_argument("--kubeconfig", default="", help="access to the cluster")
    link.add_argument("--context", default="", help="default: the kubeconfig's current one")
    link.add_argument("--cluster", default="", help="the name that `fedctl join` was given")
    link.add_argument("--federation", default="", help="https://host:port")
    link.add_argument("--token", default="", help="as printed by `fedctl join`; needed once")
    link.add_argument("--token-file", default="", help="a file with it, out of others' sight")
    link.add_argument("--ca-file", default="", help="PEM of the federation's CA")
    link.add_argument("--ca-data", default="", help="the same, base64")
    link.add_argument("--provider", default="", help="who runs the machines")
    link.add_argument("--region", default="", help="where the zones lie")
    link.add_argument("--zone", default="", help="the failure domain; several joined by commas")
    link.add_argument("--data-dir", default="", help="where the cluster's certificate is kept")
    link.add_argument("--log-level", default="info", help="debug, info, warning, error")
    link.add_argument("--log-file", default=None, help="default: standard error")
    link.add_argument(
        "--print-rbac", action="store_true", help="print what the cluster must grant, and end"
    )
    link.add_argument(
        "--impersonate-user", action="append", default=[], metavar="USER",
        help="with --print-rbac: a user of the federation who may act there; * for all",
    )  # fmt: skip
    link.add_argument(
        "--impersonate-group", action="append", default=[], metavar="GROUP",
        help="with --print-rbac: the same for a group",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command."""
    arguments = parser().parse_args(argv)
    try:
        match arguments.verb:
            case "control":
                logs.setup("control", arguments.log_level, arguments.log_file)
                return _serve(_control(settings.load(ControlFile, file=arguments.config)))
            case "node":
                logs.setup("node", arguments.log_level, arguments.log_file)
                return _serve(_node(node_config(settings.load(NodeFile, file=arguments.config))))
            case "link":
                return _link(arguments)
            case "backup" | "restore":
                return _keep(arguments)
            case _:
                return _join(arguments)
    except (ConfigError, ValueError) as error:
        print(f"cluster-agent: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"cluster-agent: {error}", file=sys.stderr)
        return 1


def _serve(work: Coroutine[Any, Any, None]) -> int:
    import uvloop

    uvloop.run(work)
    return 0


def node_config(file: NodeFile) -> "NodeConfig":
    """The node's settings."""
    from cluster_agent.node.config import NodeConfig

    hollow = file.runtime == "hollow"
    return NodeConfig(
        node_name=file.node,
        state_dir=file.stateDir,
        api_server=file.server,
        ca_file=file.caFile,
        bootstrap_token="" if file.kubeconfig else file.token,
        kubeconfig=file.kubeconfig,
        cluster_name=file.cluster,
        zone=file.zone,
        region=file.region,
        runtime=file.runtime,
        containerd_socket=file.containerdSocket,
        hollow_count=max(1, file.hollowNodes),
        node_ip=file.nodeIP,
        kubelet_port=file.kubeletPort,
        pod_cidr=file.podCIDR,
        service_cidr="" if hollow else file.serviceCidr,
        clusterset_cidr="" if hollow else file.clustersetCidr,
        dns_address="" if hollow else file.dnsAddress,
        cni_conf_dir="" if hollow else f"{file.stateDir}/cni/net.d",
    )


async def _node(config: "NodeConfig") -> None:
    from cluster_agent.node.app import run

    await run(config)


# ------------------------------------------------------------------------------------------------------------ control
async def _control(file: ControlFile) -> None:
    control, link = await start_control(file)
    await _told_to_stop()
    if link is not None:
        await link.stop()
    await control.stop()


async def _told_to_stop() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


async def start_control(file: ControlFile) -> "tuple[Control, Link | None]":
    """The control plane, and its link where a federation is named."""
    from cluster_agent.control.app import Control, ControlConfig
    from machinery.server.app import Extensions
    from machinery.server.user import MASTERS, UserInfo
    from machinery.wire.link import VIA_LINK

    federation = UserInfo("ubernetes:federation", (MASTERS,)).authenticated()
    config = ControlConfig(
        file.cluster,
        file.dataDir,
        file.listen,
        file.advertise,
        file.databaseUrl,
        file.serviceCidr,
        file.clustersetCidr,
        authentication_config=file.authenticationConfig,
        encryption_config=file.encryptionConfig,
        audit=file.audit,
    )
    extensions = Extensions(
        authenticators=[lambda request: federation if request.get(VIA_LINK) else None]
    )
    clock, ids = SystemClock(), SystemIds()
    control = Control(config, clock, ids, extensions)
    server = await control.start()
    if not file.federation.url:
        return control, None
    from cluster_agent.link.app import Link, LinkConfig

    link = Link(
        LinkConfig(
            _place(file, control),
            _access(file.federation),
            Path(file.dataDir),
            kinds=partial(_kinds, control),
        ),
        server.client(manager="ubernetes-federation"),
        server.handler,
        _resolver(control),
        clock,
        ids,
    )
    link.start()
    return control, link


def _place(file: ControlFile, control: "Control") -> "Place":
    from cluster_agent.link.report import Place

    assert control.server is not None
    return Place(
        cluster=file.cluster,
        provider=file.provider,
        region=file.region,
        zones=_zones(file.zone),
        endpoint=control.server.url,
        agent_version=__version__,
        kubernetes_version=KUBERNETES_VERSION,
        kinds=_kinds(control),
    )


def _kinds(control: "Control") -> "Kinds":
    """What is served now, custom kinds among it."""
    assert control.server is not None
    kinds: dict[str, list[tuple[str, str]]] = {}
    for kind in control.server.scheme.kinds:
        if kind.storable:
            kinds.setdefault(kind.api_version, []).append((kind.kind, kind.plural))
    return tuple((version, tuple(names)) for version, names in kinds.items())


def _zones(text: str) -> tuple[str, ...]:
    return tuple(zone.strip() for zone in text.split(",") if zone.strip())


def _access(file: FederationFile) -> "FederationAccess":
    from cluster_agent.link.identity import FederationAccess

    try:
        ca = Path(file.caFile).read_bytes()
    except OSError as error:
        raise ConfigError(f"federation.caFile: {error}") from error
    return FederationAccess(file.url, ca, file.token)


def _resolver(control: "Control") -> "Resolve":
    from machinery.client.interface import dynamic

    assert control.server is not None
    scheme = control.server.scheme

    def resolve(api_version: str, kind: str) -> Resource[Document] | None:
        group, _, version = api_version.rpartition("/")
        served = scheme.by_gvk(group, version, kind)
        if served is None or not served.storable:
            return None
        return dynamic(served.group, served.version, served.plural, served.kind, served.namespaced)

    return resolve


# --------------------------------------------------------------------------------------------------------------- join
def _ca(arguments: argparse.Namespace) -> bytes:
    import base64

    if arguments.ca_data:
        return base64.b64decode(arguments.ca_data)
    if not arguments.ca_file:
        raise ConfigError("--ca-file or --ca-data must be given: whom else should we believe?")
    return Path(arguments.ca_file).read_bytes()


def _join(arguments: argparse.Namespace) -> int:
    from cluster_agent.link.identity import AgentIdentity, FederationAccess

    ca = _ca(arguments)
    access = FederationAccess(arguments.federation, ca, arguments.token)
    directory = Path(arguments.data_dir)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    (directory / "federation-ca.crt").write_bytes(ca)
    identity = AgentIdentity(arguments.cluster, access, directory, SystemClock())
    asyncio.run(identity.obtain())
    print(f"Joined: cluster {arguments.cluster} has its certificate in {directory}.")
    print("In the control file, give:")
    print(f"  federation: {{url: {arguments.federation}, caFile: {directory}/federation-ca.crt}}")
    return 0


# ------------------------------------------------------------------------------------------------------------- backups
def _keep(arguments: argparse.Namespace) -> int:
    from machinery.kit.clock import rfc3339
    from machinery.server.backup import BackupError, Program, back_up, restore

    file = settings.load(ControlFile, file=arguments.config)
    program = Program("member", __version__, "store@head")
    try:
        if arguments.verb == "restore":
            done = asyncio.run(restore(program, arguments.file, file.dataDir, file.databaseUrl))
            print(
                f"{file.dataDir}: {done.objects} objects, taken {done.taken}; start the control plane with it."
            )
            return 0
        taken = rfc3339(SystemClock().now())
        work = back_up(program, arguments.file, file.dataDir, file.databaseUrl, taken)
        done = asyncio.run(work)
    except BackupError as error:
        print(f"cluster-agent: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.file}: {done.objects} objects at revision {done.revision}.")
    print("It is NOT encrypted, and whoever reads it is administrator of this cluster.")
    return 0


# --------------------------------------------------------------------------------------------------------------- link
LINK_NEEDS = ("kubeconfig", "cluster", "federation", "data_dir", "zone")


def _link(arguments: argparse.Namespace) -> int:
    if arguments.print_rbac:
        import yaml

        from cluster_agent.link.foreign_rights import manifest

        documents = manifest(arguments.impersonate_user, arguments.impersonate_group)
        print(yaml.safe_dump_all(documents, sort_keys=False), end="")
        return 0
    lacking = [f"--{name.replace('_', '-')}" for name in LINK_NEEDS if not getattr(arguments, name)]
    if lacking:
        raise ConfigError(f"link needs {', '.join(lacking)}")
    config = foreign_config(arguments)
    logs.setup("link", arguments.log_level, arguments.log_file)
    return _serve(_run_link(config))


def foreign_config(arguments: argparse.Namespace) -> "ForeignConfig":
    """The settings of `cluster-agent link`. Raises ConfigError, ValueError, OSError."""
    from cluster_agent.link.foreign import ForeignConfig, foreign_access
    from cluster_agent.link.identity import FederationAccess
    from cluster_agent.link.report import Place
    from machinery.meta.names import dns_label

    if wrong := dns_label(arguments.cluster):
        raise ConfigError(f"--cluster: {arguments.cluster!r} is no name for a cluster: {wrong[0]}")
    access = foreign_access(arguments.kubeconfig, arguments.context)
    directory = Path(arguments.data_dir)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    token = arguments.token
    if arguments.token_file:
        token = Path(arguments.token_file).read_text(encoding="utf-8").strip()
    place = Place(
        cluster=arguments.cluster,
        provider=arguments.provider,
        region=arguments.region,
        zones=_zones(arguments.zone),
        endpoint=access.server,
        agent_version=__version__,
        kubernetes_version="",
        kinds=(),
        grants_enforced=False,
    )
    federation = FederationAccess(arguments.federation, _ca(arguments), token)
    return ForeignConfig(place, access, federation, directory)


async def _run_link(config: "ForeignConfig") -> None:
    from cluster_agent.link.foreign import Foreign

    foreign = Foreign(config, SystemClock(), SystemIds())
    foreign.start()
    await _told_to_stop()
    await foreign.stop()
