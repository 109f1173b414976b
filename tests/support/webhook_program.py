# ruff: noqa: INP001, T201
"""A user's webhook as a program of its own, with nothing but Python: port, certificate and key are its arguments.

It labels whatever it is asked about (`team: blue`) and lets nothing pass whose name begins with `bad`.
"""

import base64
import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """One review a request."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = review.pop("request")
        response = {"uid": request["uid"], "allowed": True}
        if self.path.startswith("/label"):
            labels = {**(request["object"]["metadata"].get("labels") or {}), "team": "blue"}
            operations = [{"op": "add", "path": "/metadata/labels", "value": labels}]
            patch = base64.b64encode(json.dumps(operations).encode()).decode()
            response |= {"patchType": "JSONPatch", "patch": patch}
        elif request.get("name", "").startswith("bad"):
            response |= {"allowed": False, "status": {"message": "bad names are bad"}}
        body = json.dumps({**review, "response": response}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(port: str, certificate: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("0.0.0.0", int(port)), Handler)  # noqa: S104 - of a lab's host
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print("serving", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
