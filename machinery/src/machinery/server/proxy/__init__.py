"""`pods/proxy`, `services/proxy` and `nodes/proxy`: HTTP to what runs in the cluster, for who reaches only the API."""
