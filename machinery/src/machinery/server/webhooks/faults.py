"""Why a webhook was not reached or gave no answer, in the words of Go's clients, which people search for. Pure."""

import errno
import ssl
from typing import Final

_TLS: Final = "tls: failed to verify certificate: x509: "
_EXPIRED, _HOSTNAME, _ADDRESS = 10, 62, 64
"""OpenSSL's verify codes."""
_ERRNO: Final = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset by peer",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network is unreachable",
    errno.ETIMEDOUT: "i/o timeout",
    errno.EPIPE: "broken pipe",
}
_STATUSES: Final = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    409: "the server reported a conflict",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}
TEXT_MAX: Final = 2048
"""Letters of an answer that a message quotes."""


def dial(host: str, port: int, error: OSError) -> str:
    """A connection that was not made."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if error.errno in _ERRNO:
        return f"dial tcp {where}: connect: {_ERRNO[error.errno]}"
    return f"dial tcp {where}: connect: {error.strerror or error}"


def lookup(host: str) -> str:
    """A name that nobody knows."""
    return f"dial tcp: lookup {host}: no such host"


def certificate(host: str, error: ssl.SSLError) -> str:
    """A certificate that is not believed, or a handshake that failed otherwise."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: {getattr(error, 'reason', None) or error}"
    if error.verify_code in (_HOSTNAME, _ADDRESS):
        return f"{_TLS}certificate is not valid for {host}"
    if error.verify_code == _EXPIRED:
        return f"{_TLS}certificate has expired or is not yet valid"
    return f"{_TLS}certificate signed by unknown authority"


def broken(error: OSError) -> str:
    """A connection that ended too early."""
    return _ERRNO.get(error.errno or 0, "EOF")


def status(code: int, body: bytes) -> str:
    """An answer that is no 2xx. A body of text is quoted where Go quotes it."""
    text = body[: TEXT_MAX * 4].decode("utf-8", "replace").strip()[:TEXT_MAX]
    if 300 <= code < 400:
        return f"the server asked us to go elsewhere ({code}); redirects are not followed"
    if code == 403:
        return text or "forbidden"
    if code in _STATUSES:
        return _STATUSES[code]
    if code >= 500:
        quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'an error on the server ("{quoted}") has prevented the request from succeeding'
    return f"the server responded with the status code {code} but did not return more information"
