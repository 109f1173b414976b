"""kubectl's configuration file: reads anyone's, writes ours.

Reading gives one `Access`: where the server is and how we prove who we are. Inline data wins over files, file paths
are relative to the kubeconfig they stand in, and several files are merged as kubectl merges `KUBECONFIG`: the first
one that names something wins. What we cannot do is refused and named (exec and auth-provider plug-ins, basic auth, a user's
own impersonation, proxies).

Writing is atomic and for the owner's eyes only (0600); other contexts in the file are kept.
"""

import base64
import os
import ssl
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from machinery.client.identity import client_context
from machinery.client.rest import RestClient
from machinery.meta.resource import Document

SERVICE_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_REFUSED_USER_FIELDS = (
    "exec", "auth-provider", "username", "password", "as", "as-uid", "as-groups", "as-user-extra",
)  # fmt: skip


class KubeconfigError(ValueError):
    """The file is missing, malformed, or asks for what we do not do."""


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach one API server as one user. PEM bytes are empty where absent."""

    server: str
    ca: bytes = b""
    certificate: bytes = b""
    key: bytes = b""
    token: str = ""
    token_file: str = ""
    """Read anew for each request: the kubelet rotates it."""
    namespace: str = ""
    insecure: bool = False
    server_name: str = ""
    """The name that the server's certificate must carry, where it is not the URL's."""

    def ssl_context(self) -> ssl.SSLContext | None:
        """None for plain HTTP."""
        if not self.server.startswith("https://"):
            return None
        return client_context(
            ca=self.ca, certificate=self.certificate, key=self.key, insecure=self.insecure
        )

    def bearer(self) -> str | Callable[[], str]:
        """The token, or how to get it."""
        if not self.token_file:
            return self.token
        path = Path(self.token_file)
        return lambda: path.read_text().strip()

    def client(self, *, field_manager: str = "ubernetes") -> RestClient:
        """A client with this access."""
        return RestClient(
            self.server,
            self.ssl_context(),
            self.bearer(),
            field_manager=field_manager,
            server_hostname=self.server_name,
        )


def load(path: str | Path | Sequence[str | Path], context: str = "") -> Access:
    """The access of `context`, or of the current context. Several paths are merged; missing ones are skipped."""
    paths = [path] if isinstance(path, str | Path) else list(path)
    merged = merge([(Path(p).parent, _read(Path(p))) for p in paths if Path(p).exists()])
    if not merged:
        raise KubeconfigError(f"no kubeconfig at {', '.join(map(str, paths))}")
    return access(merged, context)


def merge(configs: Sequence[tuple[Path, Mapping[str, Any]]]) -> Document:
    """One document of several; the first to name a cluster, user, context or current context wins."""
    merged: Document = {}
    for folder, config in configs:
        merged.setdefault("apiVersion", "v1")
        merged.setdefault("kind", "Config")
        if config.get("current-context") and not merged.get("current-context"):
            merged["current-context"] = config["current-context"]
        for section, entry_name in _SECTIONS:
            entries = merged.setdefault(section, [])
            known = {entry["name"] for entry in entries}
            for entry in config.get(section) or ():
                if entry["name"] not in known:
                    body = _absolute(entry.get(entry_name) or {}, folder)
                    entries.append({"name": entry["name"], entry_name: body})
    return merged


_SECTIONS = (("clusters", "cluster"), ("users", "user"), ("contexts", "context"))
_FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def _absolute(body: Mapping[str, Any], folder: Path) -> Document:
    """With every file path made independent of where the kubeconfig stands."""
    return {
        name: str(folder / value) if name in _FILES and value else value
        for name, value in body.items()
    }


def access(config: Mapping[str, Any], context: str = "") -> Access:
    """The access of one context of a (merged) document."""
    wanted = context or config.get("current-context") or ""
    if not wanted:
        raise KubeconfigError("kubeconfig has no current-context; name a context")
    chosen = _entry(config, "contexts", "context", wanted)
    cluster = _entry(config, "clusters", "cluster", chosen.get("cluster", ""))
    user_name = chosen.get("user", "")
    user = _entry(config, "users", "user", user_name) if user_name else {}
    refused = [name for name in _REFUSED_USER_FIELDS if user.get(name)]
    if refused:
        raise KubeconfigError(f'user "{user_name}" uses {refused[0]}, which is not supported here')
    if cluster.get("proxy-url"):
        name = chosen.get("cluster", "")
        raise KubeconfigError(f'cluster "{name}" uses proxy-url, which is not supported here')
    if not cluster.get("server"):
        raise KubeconfigError(f'cluster "{chosen.get("cluster", "")}" has no server')
    return Access(
        server=cluster["server"].rstrip("/"),
        ca=_pem(cluster, "certificate-authority"),
        certificate=_pem(user, "client-certificate"),
        key=_pem(user, "client-key"),
        token=user.get("token", ""),
        token_file="" if user.get("token") else user.get("tokenFile", ""),
        namespace=chosen.get("namespace", ""),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        server_name=cluster.get("tls-server-name", ""),
    )


def in_cluster(environ: Mapping[str, str], folder: Path = SERVICE_ACCOUNT_DIR) -> Access:
    """The access that a Pod is given."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise KubeconfigError("not in a cluster: KUBERNETES_SERVICE_HOST and _PORT are not set")
    return Access(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        ca=(folder / "ca.crt").read_bytes(),
        token_file=str(folder / "token"),
        namespace=(folder / "namespace").read_text().strip(),
    )


def document(name: str, access: Access, *, user: str = "") -> Document:
    """A kubeconfig with one context `name`, everything inline."""
    user = user or f"{name}-admin"
    cluster: Document = {"server": access.server}
    if access.ca:
        cluster["certificate-authority-data"] = _base64(access.ca)
    if access.insecure:
        cluster["insecure-skip-tls-verify"] = True
    if access.server_name:
        cluster["tls-server-name"] = access.server_name
    credentials: Document = {}
    if access.certificate:
        credentials["client-certificate-data"] = _base64(access.certificate)
        credentials["client-key-data"] = _base64(access.key)
    if access.token:
        credentials["token"] = access.token
    if access.token_file:
        credentials["tokenFile"] = access.token_file
    context = {"cluster": name, "user": user}
    if access.namespace:
        context["namespace"] = access.namespace
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
    }


def write(path: str | Path, config: Mapping[str, Any], *, keep_others: bool = True) -> None:
    """Put `config` into the file: its entries replace those of the same name, others stay unless told otherwise."""
    path = Path(path)
    result = dict(config)
    if keep_others and path.exists():
        result = merge([(path.parent, config), (path.parent, _read(path))])
    write_secret(path, yaml.safe_dump(result, sort_keys=False).encode())


def write_secret(path: Path, content: bytes) -> None:
    """Atomically, 0600 from the first byte, durable when it returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read(path: Path) -> Document:
    try:
        config = yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as error:
        raise KubeconfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(config, dict) or config.get("kind", "Config") != "Config":
        raise KubeconfigError(f"{path} is not a kubeconfig")
    return config


def _entry(config: Mapping[str, Any], section: str, entry_name: str, name: str) -> Document:
    entries = config.get(section) or ()
    for entry in entries:
        if entry["name"] == name:
            body: Document = entry.get(entry_name) or {}
            return body
    known = ", ".join(sorted(entry["name"] for entry in entries)) or "none"
    raise KubeconfigError(f'kubeconfig has no {entry_name} "{name}" (it has: {known})')


def _pem(body: Mapping[str, Any], name: str) -> bytes:
    inline = body.get(f"{name}-data")
    if inline:
        try:
            return base64.b64decode(inline, validate=True)
        except ValueError as error:
            raise KubeconfigError(f"{name}-data is not base64") from error
    if not body.get(name):
        return b""
    try:
        return Path(body[name]).read_bytes()
    except OSError as error:
        raise KubeconfigError(f"{name}: {error}") from error


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
