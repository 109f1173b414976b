"""The paths beside the objects: health, version, metrics, discovery, OpenAPI, the keys of tokens.

Discovery and OpenAPI are bytes made once per set of kinds, with an ETag; a client that has them gets 304. /openapi/v2
is JSON; in protobuf it is a document without contents, all that kubectl needs of it (it asks about kinds that v3 does not
have, and must be able to read that there is nothing). Health checks are the one thing served without identity, and say nothing but which check failed.
"""

import hashlib
import platform
from collections.abc import Callable, Mapping

from aiohttp import web

from machinery.api import discovery, openapi
from machinery.api.scheme import Scheme
from machinery.kit import metrics
from machinery.meta.errors import MethodNotAllowed, NotFound
from machinery.server.negotiate import negotiate
from machinery.server.replies import JSON_TYPE, TEXT_TYPE, Reply, dumps
from machinery.server.request import RequestInfo
from machinery.server.tokens import TokenIssuer

GIT_VERSION = "v1.36.2+ubernetes"
PROTOBUF_V2 = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
"""As clients ask for it; the answer says `.` for `@`, which is no character of a media type."""
EMPTY_V2 = b"\x0a\x032.0" + b"\x12\x12\x0a\x0aKubernetes\x12\x041.36" + b"\x42\x00"
"""openapi.v2.Document: swagger (1), info (2) with title (1) and version (2), paths (8)."""
Check = Callable[[], str]
"""Empty when well, else what is wrong."""


def not_found() -> NotFound:
    """A path below a served group that leads nowhere."""
    return NotFound("the server could not find the requested resource", details={})


def method_not_allowed() -> MethodNotAllowed:
    """A verb that the path does not have."""
    return MethodNotAllowed(
        "the server does not allow this method on the requested resource", details={}
    )


def page_not_found() -> Reply:
    """A path that leads nowhere at all."""
    return Reply(404, b"404 page not found\n", TEXT_TYPE)


class Plain:
    """Answers plain paths."""

    def __init__(
        self,
        scheme: Scheme,
        checks: Mapping[str, Check],
        issuer: TokenIssuer,
        base_url: Callable[[], str],
        render_metrics: Callable[[], bytes],
    ) -> None:
        self._scheme = scheme
        self._checks = dict(checks)
        self._issuer = issuer
        self._base_url = base_url
        self._render_metrics = render_metrics
        self._cached: dict[str, tuple[int, bytes, str]] = {}

    # ----------------------------------------------------------------------------------------------- health
    def health(self, info: RequestInfo) -> Reply | None:
        """/healthz, /livez, /readyz and each check below them."""
        root, _, rest = info.path.strip("/").partition("/")
        if root not in ("healthz", "livez", "readyz"):
            return None
        checks = {"ping": lambda: "", **self._checks}
        if root == "livez":
            checks.pop("shutdown", None)
        if rest:
            check = checks.get(rest)
            if check is None:
                return page_not_found()
            return _verdict({rest: check()}, root, verbose=False)
        excluded = info.query.get("exclude", [])
        results = {name: check() for name, check in checks.items() if name not in excluded}
        verbose = "verbose" in info.query
        return _verdict(
            results, root, verbose=verbose, excluded=[e for e in excluded if e in checks]
        )

    # ----------------------------------------------------------------------------------------------- the rest
    async def answer(self, request: web.BaseRequest, info: RequestInfo) -> web.StreamResponse:
        path = info.path.rstrip("/") or "/"
        if path == "/":
            return self._json(request, "paths", lambda: dumps({"paths": self._paths()}))
        root = path.split("/")[1]
        if root in ("api", "apis"):
            return self._discovery(request, info, path)
        if root == "openapi":
            return self._openapi(request, info, path)
        if path == "/version":
            _only_get(info)
            return self._json(request, "version", lambda: dumps(_version()))
        if path == "/metrics":
            return Reply(200, self._render_metrics(), metrics.CONTENT_TYPE)
        if path == "/openid/v1/jwks":
            return Reply(200, dumps(self._issuer.jwks()), "application/jwk-set+json")
        if path == "/.well-known/openid-configuration":
            return Reply(200, dumps(self._issuer.openid_configuration(self._base_url())))
        return page_not_found()

    def _paths(self) -> list[str]:
        paths = ["/.well-known/openid-configuration", "/api", "/api/v1", "/apis"]
        for group, versions in self._scheme.groups().items():
            if group:
                paths += [f"/apis/{group}", *(f"/apis/{group}/{version}" for version in versions)]
        paths += [
            f"/{root}/{check}" for root in ("healthz", "livez", "readyz") for check in self._checks
        ]
        paths += ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks"]
        return sorted([*paths, "/readyz", "/version"])

    def _discovery(self, request: web.BaseRequest, info: RequestInfo, path: str) -> Reply:
        parts = path.split("/")[1:]
        if parts[0] == "api" and len(parts) > 1:
            parts = ["apis", "", *parts[1:]]
        scheme, groups = self._scheme, self._scheme.groups()
        if len(parts) >= 2 and (parts[0] == "apis") and parts[1] and parts[1] not in groups:
            return page_not_found()
        _only_get(info)
        if len(parts) == 1:
            return self._roots(request, legacy=parts[0] == "api")
        if len(parts) == 2:
            group = discovery.api_group(scheme, parts[1])
            if group is None:
                return page_not_found()
            return self._json(request, path, lambda: dumps(group))
        listed = (
            discovery.api_resource_list(scheme, parts[1], parts[2]) if len(parts) == 3 else None
        )
        if listed is None:
            raise not_found()
        return self._json(request, path, lambda: dumps(listed))

    def _roots(self, request: web.BaseRequest, *, legacy: bool) -> Reply:
        accepted = negotiate(request.headers.get("Accept", ""))
        if accepted.discovery:
            return self._json(
                request, f"aggregated {legacy}",
                lambda: dumps(discovery.aggregated(self._scheme, legacy)),
                discovery.AGGREGATED_MEDIA_TYPE,
            )  # fmt: skip
        if legacy:
            address = self._base_url().removeprefix("https://")
            return self._json(request, "/api", lambda: dumps(discovery.api_versions(address)))
        return self._json(request, "/apis", lambda: dumps(discovery.api_group_list(self._scheme)))

    def _openapi(self, request: web.BaseRequest, info: RequestInfo, path: str) -> Reply:
        if path == "/openapi/v3":
            return self._json(request, path, lambda: dumps(openapi.index(self._scheme)))
        if path == "/openapi/v2" and PROTOBUF_V2 in request.headers.get("Accept", ""):
            digest = hashlib.sha256(EMPTY_V2).hexdigest().upper()
            return _tagged(request, EMPTY_V2, digest, PROTOBUF_V2.replace("@", "."))
        if path == "/openapi/v2":
            body, digest = openapi.swagger_bytes(self._scheme)
            return _tagged(request, body, digest, JSON_TYPE)
        if not path.startswith("/openapi/v3/"):
            return page_not_found()
        parts = path.removeprefix("/openapi/v3/").split("/")
        group, version = ("", parts[1]) if parts[0] == "api" and len(parts) == 2 else ("", "")
        if parts[0] == "apis" and len(parts) == 3:
            group, version = parts[1], parts[2]
        body, digest = openapi.group_bytes(self._scheme, group, version)
        if not body:
            return Reply(404, b"", TEXT_TYPE)
        asked = info.first("hash")
        if asked and asked != digest:
            return Reply(301, b"", TEXT_TYPE, (("Location", f"{path}?hash={digest}"),))
        headers = (("Cache-Control", "public, immutable"),) if asked else ()
        return _tagged(request, body, digest, JSON_TYPE, headers)

    def _json(
        self,
        request: web.BaseRequest,
        key: str,
        make: Callable[[], bytes],
        content_type: str = JSON_TYPE,
    ) -> Reply:
        """Bytes made once per set of kinds."""
        size = self._scheme.generation
        kept = self._cached.get(key)
        if kept is None or kept[0] != size:
            body = make()
            kept = self._cached[key] = (size, body, hashlib.sha256(body).hexdigest().upper())
        return _tagged(request, kept[1], kept[2], content_type)


def _tagged(
    request: web.BaseRequest,
    body: bytes,
    digest: str,
    content_type: str,
    headers: tuple[tuple[str, str], ...] = (),
) -> Reply:
    tag = f'"{digest}"'
    headers = (*headers, ("Etag", tag), ("Vary", "Accept"))
    if request.headers.get("If-None-Match") == tag:
        return Reply(304, b"", content_type, headers)
    return Reply(200, body, content_type, headers)


def _only_get(info: RequestInfo) -> None:
    if info.method not in ("GET", "HEAD"):
        raise method_not_allowed()


def _verdict(
    results: Mapping[str, str], root: str, *, verbose: bool, excluded: list[str] | None = None
) -> Reply:
    failed = [name for name, fault in results.items() if fault]
    if not failed and not verbose:
        return Reply(200, b"ok", TEXT_TYPE)
    lines = [
        f"[-]{name} failed: reason withheld" if fault else f"[+]{name} ok"
        for name, fault in results.items()
    ]
    lines += [f"[+]{name} excluded: ok" for name in excluded or ()]
    lines.append(f"{root} check {'failed' if failed else 'passed'}")
    return Reply(500 if failed else 200, ("\n".join(lines) + "\n").encode(), TEXT_TYPE)


def _version() -> dict[str, str]:
    return {
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z",
        "goVersion": f"python{platform.python_version()}",
        "compiler": platform.python_implementation().lower(),
        "platform": f"linux/{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(platform.machine(), platform.machine()) }",
    }
