"""The node process: kubelet over CRI, volumes, pod network, and the HTTPS endpoint for logs and exec."""
