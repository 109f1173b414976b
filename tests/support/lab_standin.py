"""Stand-ins for federation-server and cluster-agent, for tests of the lab alone.

They keep the contract between the lab and the programs: read the YAML, leave admin.kubeconfig in the data directory, answer
/readyz, take bootstrap Secrets, list clusters and nodes. The node runs one real pod through the node's containerd, so that
a teardown has something real to tear down.
"""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

READY = [{"type": "Ready", "status": "True"}]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, code: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/readyz":
            self.answer(200, "ok")
        elif path.endswith("/clusters"):
            self.answer(200, listing("Cluster", [cluster(name) for name in spec()["clusters"]]))
        elif path.endswith("/nodes"):
            count = spec()["nodes"] + spec()["hollow_nodes"]
            self.answer(200, listing("Node", [node(i) for i in range(count)]))
        else:
            self.answer(404, {"kind": "Status", "code": 404})

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert document["type"] == "bootstrap.kubernetes.io/token"
        self.answer(201, document)

    def log_message(self, *words: Any) -> None:
        print(*words[1:], flush=True)


def listing(kind: str, items: list[Any]) -> dict[str, Any]:
    return {"kind": f"{kind}List", "metadata": {"resourceVersion": "1"}, "items": items}


def cluster(name: str) -> dict[str, Any]:
    summary = {"totalNum": spec()["nodes"], "readyNum": spec()["nodes"]}
    status = {"conditions": READY, "kubernetesVersion": "v0", "nodeSummary": summary}
    place = {"provider": "lab", "region": "region-1", "zone": "zone-a"}
    return {"metadata": {"name": name, "uid": name}, "spec": place, "status": status}


def node(index: int) -> dict[str, Any]:
    return {"metadata": {"name": f"node-{index}"}, "status": {"conditions": READY}}


def spec() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(os.environ["UBERNETES_LAB"], "lab.json").read_bytes())[
        "spec"
    ]
    return found


def serve(config: dict[str, Any]) -> None:
    host, _, port = config["listen"][0].rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kubeconfig = {
        "kind": "Config",
        "clusters": [{"name": "x", "cluster": {"server": f"http://{host}:{port}"}}],
        "users": [{"name": "x", "user": {"token": "x"}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "current-context": "x",
    }
    Path(config["dataDir"], "admin.kubeconfig").write_text(yaml.safe_dump(kubeconfig))


def run_pod(config: dict[str, Any]) -> None:
    import grpc
    from cri_api.v1 import api_pb2 as api
    from cri_api.v1 import api_pb2_grpc as stubs

    runtime = stubs.RuntimeServiceStub(
        grpc.insecure_channel(f"unix://{config['containerdSocket']}")
    )
    sandbox = api.PodSandboxConfig(
        metadata=api.PodSandboxMetadata(name="web", uid="1", namespace="default"),
        hostname="web",
        log_directory=f"{config['stateDir']}/pods",
        linux=api.LinuxPodSandboxConfig(cgroup_parent="/kubepods/pod1"),
    )
    network = Path(config["stateDir"], "cni/net.d/10-pods.conflist")
    network.write_text(json.dumps(pod_network(config)))
    while not all(c.status for c in runtime.Status(api.StatusRequest()).status.conditions):
        time.sleep(0.05)
    if runtime.ListPodSandbox(api.ListPodSandboxRequest()).items:
        return
    pod = runtime.RunPodSandbox(api.RunPodSandboxRequest(config=sandbox)).pod_sandbox_id
    names = ("node", "cluster", "zone")
    container = api.ContainerConfig(
        metadata=api.ContainerMetadata(name="web"),
        image=api.ImageSpec(image="docker.io/lab/whoami:1"),
        log_path="web.log",
        envs=[api.KeyValue(key=f"UBERNETES_{n.upper()}", value=config[n]) for n in names],
    )
    made = runtime.CreateContainer(
        api.CreateContainerRequest(pod_sandbox_id=pod, config=container, sandbox_config=sandbox)
    )
    runtime.StartContainer(api.StartContainerRequest(container_id=made.container_id))
    address = runtime.PodSandboxStatus(
        api.PodSandboxStatusRequest(pod_sandbox_id=pod)
    ).status.network.ip
    Path(config["stateDir"], "pod-address").write_text(address)


def pod_network(config: dict[str, Any]) -> dict[str, Any]:
    ipam = {
        "type": "host-local",
        "dataDir": f"{config['stateDir']}/cni/ipam",
        "ranges": [[{"subnet": config["podCIDR"]}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": ipam}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}


def main() -> None:
    role, path = sys.argv[1], sys.argv[-1]
    config = yaml.safe_load(Path(path).read_bytes())
    if role == "node":
        assert config["token"].count(".") == 1
        if config["runtime"] == "containerd":
            run_pod(config)
    else:
        serve(config)
    print("ready", flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
