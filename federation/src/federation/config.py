"""Settings of the federation server: one YAML file, the environment, flags; read once at start."""

from dataclasses import dataclass

from machinery.server.audit.settings import AuditSettings
from machinery.server.limits import LimitSettings


@dataclass(frozen=True, slots=True)
class FederationConfig:
    """The file of `federation-server --config`. Keys are spelled as in the file."""

    dataDir: str  # noqa: N815
    """Keys, admin.kubeconfig, and the store when it is SQLite."""

    listen: tuple[str, ...] = ("127.0.0.1:6443",)
    """host:port of the API, one or more."""

    advertise: str = ""
    """URL under which members and people reach the API; default: the first listen address."""

    databaseUrl: str = ""  # noqa: N815
    """postgresql://… for several servers; default: SQLite in dataDir. Variable: FEDERATION_DATABASE_URL."""

    replicaUrl: str = ""  # noqa: N815
    """URL under which members reach this very server, of several; default: the first listen address."""

    serviceCidr: str = "240.0.0.0/12,100::/96"  # noqa: N815
    """Addresses that Services have here, one range of each family by a comma; empty: none. They go nowhere, as each member gives its
    own: the default lies in blocks that nobody routes (RFC 1112 section 4, RFC 6666). Some clients wait for an address."""

    heartbeatSuspectSeconds: float = 6.0  # noqa: N815
    """Silence after which a member is called suspect."""

    heartbeatUnreachableSeconds: float = 10.0  # noqa: N815
    """Silence after which a member is not Ready."""

    failbackStabilizationSeconds: float = 300.0  # noqa: N815
    """How long a cluster must be well again before displaced workloads go back to it."""

    allowNoExecuteTaintPolicy: bool = False  # noqa: N815
    """Whether ClusterTaintPolicies may drive workloads away (effect NoExecute), as Karmada's flag of this name."""

    authenticationConfig: str = ""  # noqa: N815
    """File with an AuthenticationConfiguration (apiserver.config.k8s.io/v1): identity providers whose tokens are believed."""

    encryptionConfig: str = ""  # noqa: N815
    """File with an EncryptionConfiguration (apiserver.config.k8s.io/v1): what lies encrypted in the database."""

    audit: AuditSettings = AuditSettings()
    """The audit log: enabled, path, policyFile, maxSizeMegabytes, maxBackups."""

    limits: LimitSettings = LimitSettings()
    """What clients may take: requestBodyBytes, waitingRequestsPerFlow, waitSeconds, lastingRequestsPerUser, connectionsPerAddress."""

    @property
    def store_url(self) -> str:
        return self.databaseUrl or f"sqlite:///{self.dataDir}/store.db"
