"""HorizontalPodAutoscalers: the replicas of a workload follow what its pods use."""
