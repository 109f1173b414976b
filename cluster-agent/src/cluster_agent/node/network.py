"""The pod network's configuration for CNI: one bridge per node, addresses out of the node's own range.

Written only when it differs, because containerd re-reads the folder on every change. Host ports are portmap's.
"""

import ipaddress
import json
import os
from pathlib import Path

from machinery.meta.resource import Document

FILE = "10-ubernetes.conflist"
BRIDGE = "cni0"
"""Of the pods, where the settings name no other."""


def cni_config(*, bridge: str, pod_cidr: str, data_dir: str, mtu: int) -> Document:
    """The conflist. Raises ValueError for a bad range. Pure."""
    network = ipaddress.ip_network(pod_cidr)
    default = "::/0" if network.version == 6 else "0.0.0.0/0"
    return {
        "cniVersion": "0.4.0",
        "name": "ubernetes",
        "plugins": [
            {
                "type": "bridge",
                "bridge": bridge,
                "isGateway": True,
                "isDefaultGateway": False,
                "ipMasq": False,
                "hairpinMode": True,
                "mtu": mtu,
                "ipam": {
                    "type": "host-local",
                    "dataDir": data_dir,
                    "ranges": [[{"subnet": str(network)}]],
                    "routes": [{"dst": default}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def write_cni(folder: str, config: Document) -> bool:
    """Write it if it is not there yet; whether it was written."""
    text = json.dumps(config, indent=1) + "\n"
    path = Path(folder) / FILE
    os.makedirs(folder, exist_ok=True)
    if path.exists() and path.read_text() == text:
        return False
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.replace(path)
    return True
