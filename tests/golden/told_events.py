"""Whether the same was told in Events: recorded ones and ours, without what is a matter of chance."""

import re
from collections import Counter

FOLDED = "(combined from similar events): "


def same_events(recorded: Counter[str], ours: Counter[str], *, several: bool) -> bool:
    """Whether the same was told. After several changes in a row the way to the end is a race, its end is not."""
    return _told(recorded) == _told(ours) or (several and _net(recorded) == _net(ours))


def _told(events: Counter[str]) -> Counter[str]:
    """Failed attempts depend on how often was tried; which of parallel writes is folded depends on their order."""
    told: Counter[str] = Counter()
    for text, count in events.items():
        if "| FailedCreate |" in text:
            continue
        about, kind, reason, message = text.split(" | ", 3)
        plain = message.removeprefix(FOLDED)
        if reason == "ScalingReplicaSet" and plain != message:
            plain = "folded"
        told[" | ".join((about, kind, reason, plain))] += count
    return told


def _net(events: Counter[str]) -> tuple[Counter[str], bool]:
    """What became of each ReplicaSet's size, and of its pods; unknown where it was folded away."""
    sizes: Counter[str] = Counter()
    folded = False
    for text, count in events.items():
        about, _, reason, message = text.split(" | ", 3)
        if reason == "FailedCreate":
            continue
        if reason != "ScalingReplicaSet":
            sizes[f"{about} {reason}"] += count
            continue
        folded = folded or message.startswith(FOLDED)
        found = re.search(r"replica set (\S+) from (\d+) to (\d+)$", message)
        assert found is not None
        sizes[found.group(1)] += count * (int(found.group(3)) - int(found.group(2)))
    if folded:
        sizes = Counter({k: v for k, v in sizes.items() if " " in k})
    return Counter({k: v for k, v in sizes.items() if v}), folded
