"""Settings of an API server, read once by the composition root and never changed afterwards."""

from dataclasses import dataclass, field

from machinery.server.audit.config import AuditConfig
from machinery.server.limits import LIMITS, Limits
from machinery.server.user import UserInfo

MIB = 1024 * 1024
SERVICE_CIDR = "10.96.0.0/16"


@dataclass(frozen=True, slots=True)
class Listen:
    """One address to listen on; port 0 lets the system choose."""

    host: str = "127.0.0.1"
    port: int = 0


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What one API server is told. Every limit has a unit in its name."""

    name: str = "ubernetes"
    """Whom the certificates and the issuer of tokens name: the cluster or `federation`."""

    listen: tuple[Listen, ...] = (Listen(),)
    """Addresses of the HTTPS port; the first is the one that `port` reports."""

    pki_dir: str = ""
    """Where CA, serving certificate and token key are kept (created when absent). Empty: in memory, for tests."""

    serving_names: tuple[str, ...] = ("localhost", "127.0.0.1", "::1", "kubernetes.default.svc")
    """DNS names and IP addresses that the serving certificate is good for."""

    advertise_url: str = ""
    """The URL written into the kubeconfigs made here. Empty: https://<first listen address>:<port>."""

    static_tokens: tuple[tuple[str, UserInfo], ...] = field(default=(), repr=False)
    """Bearer tokens that are good for ever. For tests and the lab; none by default."""

    authentication_config: str = ""
    """File with an AuthenticationConfiguration: identity providers whose tokens are believed. Empty: none's."""

    client_ca_pem: str = ""
    """Further CAs whose client certificates are believed, beside our own."""

    limits: Limits = LIMITS
    """What clients may take of it."""

    gzip_bytes_min: int = 128 * 1024
    """Answers above this are compressed when the client asks for it."""

    list_segment_objects: int = 250
    """A LIST is written in segments of this many objects, other requests are served between them."""

    watch_ring_events_max: int = 4096
    """Events kept per kind for watches that resume, and for exact lists of an older revision."""

    watch_ring_bytes_max: int = 32 * MIB
    """Bound of the same ring in bytes of objects."""

    watch_lag_events_max: int = 4096
    """A watcher that is this many events behind is told 410 and closed."""

    watch_buffer_bytes_max: int = 1 * MIB
    """Bytes in a socket's send buffer above which a watcher is left to lag instead of being written to."""

    watch_timeout_s: float = 2700.0
    """A watch without timeoutSeconds ends after this (up to twice, by chance, so that they do not end together)."""

    bookmark_interval_s: float = 60.0
    """How often a watch that asked for bookmarks gets one."""

    snapshot_ttl_s: float = 300.0
    """How long a started paged LIST can be continued consistently."""

    heartbeat_namespaces: tuple[str, ...] = ("kube-node-lease", "karmada-cluster")
    """Leases here are heartbeats (of nodes, of clusters): they may lose their last seconds in a crash. All others,
    election Leases among them, are durable before the answer."""

    track_managed_fields: bool = True
    """Record field managers of every write. Off (small boards): only from the first server-side apply on."""

    service_accounts: bool = True
    """Admission plugin ServiceAccount: default account and projected token volume of every pod."""

    taint_new_nodes: bool = False
    """New nodes are tainted not-ready:NoSchedule. Only where the node lifecycle controller runs, which takes it away."""

    service_cidr: str = SERVICE_CIDR
    """Range of cluster addresses; one of each family by a comma. Clusters that meet must not overlap. Empty: Services get
    none."""

    service_templates: bool = False
    """Services are run by others (the federation): addresses out of service_cidr only stand for those that members give, the
    server has none itself, and one from elsewhere is kept as it was given and claimed by nobody."""

    node_ports: str = "30000-32767"
    """Range of node ports, both ends included."""

    serving_cert_days: int = 365
    """Life of the serving certificate; a new one is made at two thirds of it."""

    audit: AuditConfig | None = None
    """Where requests are recorded, and which. None: nowhere."""

    shutdown_grace_s: float = 5.0
    """How long running requests may take when the server stops."""
