"""ReplicaSet controller: keeps as many Pods as asked."""
