"""The control plane of one cluster: API server, scheduler, controllers and the link, in one process."""
