"""DaemonSet controller: one pod on each node that takes it."""
