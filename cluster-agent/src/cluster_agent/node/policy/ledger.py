"""Who is selected by what, kept up by differences: a pod that comes or changes is compared with the groups that could
hold it, and nothing else is read. Pure.

Every selector in use is a `Group`, whether it says whose traffic is judged or who may talk; policies with equal selectors
share one. A named port is the addresses of all pods that have a port of that name, with the number that each gives it.
Which namespaces a `namespaceSelector` means is asked of their labels; a namespace that is not known yet has its name's
label, as every namespace has.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

from cluster_agent.node.policy.model import EGRESS, INGRESS, Group, Key, Pod, Policy, family_of

NAME_LABEL = "kubernetes.io/metadata.name"

Labels = Mapping[str, str]
NamedPort = tuple[str, str]
"""(name, protocol)."""
T = TypeVar("T", bound=Hashable)


class Ledger:
    """One node's view. Reading: `subjects`, `addresses`, `numbers`, `pods`, `policies`."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.policies: dict[Key, Policy] = {}
        self.pods: dict[Key, Pod] = {}
        self.spaces: dict[str, Labels] = {}
        self._members: dict[Group, set[Key]] = {}
        self._uses: Counter[Group] = Counter()
        self._near: dict[str, set[Group]] = {}
        """Groups of one namespace, by that namespace."""
        self._wide: set[Group] = set()
        self._in_space: dict[str, set[Key]] = {}
        self._local: set[Key] = set()
        self._ports: dict[NamedPort, set[Key]] = {}
        self._addresses: dict[Group, dict[str, frozenset[str]]] = {}
        self._numbers: dict[NamedPort, dict[str, frozenset[str]]] = {}
        """Both by family, made when they are asked for and thrown away when a pod of theirs changes."""

    # ---------------------------------------------------------------------------------------------------- differences
    def put_policy(self, key: Key, policy: Policy | None) -> None:
        """A policy as it is now; None: it is gone."""
        old = self.policies.pop(key, None)
        if policy is not None:
            self.policies[key] = policy
            for group in _groups(policy):
                self._use(group)
        if old is not None:
            for group in _groups(old):
                self._unuse(group)

    def put_pod(self, key: Key, pod: Pod | None) -> None:
        """A pod as it is now; None: it is gone, has ended or is on the host's network."""
        old = self.pods.pop(key, None)
        if pod is not None:
            self.pods[key] = pod
        if old == pod:
            return
        _file(self._in_space, key.namespace, key, there=pod is not None)
        local = pod is not None and pod.node == self.node
        (self._local.add if local else self._local.discard)(key)
        for group in (*self._near.get(key.namespace, ()), *self._wide):
            self._place(group, key, moved=True)
        before = {port[:2] for port in old.ports} if old is not None else set()
        after = {port[:2] for port in pod.ports} if pod is not None else set()
        for port in before | after:
            _file(self._ports, port, key, there=port in after)
            self._numbers.pop(port, None)

    def put_space(self, name: str, labels: Labels | None) -> None:
        """A namespace's labels; None: it is gone."""
        if self.spaces.get(name) == labels:
            return
        if labels is None:
            del self.spaces[name]
        else:
            self.spaces[name] = labels
        for group in self._wide:
            for key in self._in_space.get(name, ()):
                self._place(group, key)

    # -------------------------------------------------------------------------------------------------------- reading
    def local_pods(self) -> list[Key]:
        """Pods of this node that have an address, in order."""
        return sorted(key for key in self._local if self.pods[key].ips)

    def subjects(self, policy: Policy) -> set[Key]:
        """The pods whose traffic it judges, on whatever node."""
        return self._members[policy.subject]

    def addresses(self, group: Group, family: str) -> frozenset[str]:
        """Of all pods of a group; the same object until one of them differs."""
        made = self._addresses.setdefault(group, {})
        if family not in made:
            found = (ip for key in self._members[group] for ip in self.pods[key].ips)
            made[family] = frozenset(ip for ip in found if family_of(ip) == family)
        return made[family]

    def numbers(self, port: NamedPort, family: str) -> frozenset[str]:
        """`address . protocol . number` of every pod that has a port of that name; the same object until one differs."""
        made = self._numbers.setdefault(port, {})
        if family not in made:
            made[family] = frozenset(
                f"{ip} . {protocol} . {number}"
                for key in self._ports.get(port, ())
                for name, protocol, number in self.pods[key].ports
                if (name, protocol) == port
                for ip in self.pods[key].ips
                if family_of(ip) == family
            )
        return made[family]

    # --------------------------------------------------------------------------------------------------------- groups
    def _fits(self, group: Group, key: Key) -> bool:
        pod = self.pods.get(key)
        if pod is None or (group.namespace and key.namespace != group.namespace):
            return False
        if group.spaces is not None and not group.spaces.matches(self._labels_of(key.namespace)):
            return False
        return group.pods.matches(pod.labels)

    def _labels_of(self, namespace: str) -> Labels:
        return self.spaces.get(namespace) or {NAME_LABEL: namespace}

    def _place(self, group: Group, key: Key, *, moved: bool = False) -> None:
        """In or out; `moved`: the pod itself changed, so that its addresses may be others."""
        members = self._members[group]
        before, after = key in members, self._fits(group, key)
        if after:
            members.add(key)
        else:
            members.discard(key)
        if before != after or (after and moved):
            self._addresses.pop(group, None)

    def _use(self, group: Group) -> None:
        self._uses[group] += 1
        if self._uses[group] > 1:
            return
        if group.namespace:
            self._near.setdefault(group.namespace, set()).add(group)
            candidates: Iterable[Key] = self._in_space.get(group.namespace, ())
        else:
            self._wide.add(group)
            candidates = self.pods
        self._members[group] = {key for key in candidates if self._fits(group, key)}

    def _unuse(self, group: Group) -> None:
        self._uses[group] -= 1
        if self._uses[group]:
            return
        del self._uses[group], self._members[group]
        _ = self._addresses.pop(group, None)
        self._wide.discard(group)
        if group.namespace:
            near = self._near[group.namespace]
            near.discard(group)
            if not near:
                del self._near[group.namespace]


def _file(index: dict[T, set[Key]], value: T, key: Key, *, there: bool) -> None:
    if there:
        index.setdefault(value, set()).add(key)
    elif (held := index.get(value)) is not None:
        held.discard(key)
        if not held:
            del index[value]


def _groups(policy: Policy) -> list[Group]:
    """Each as often as it is named."""
    peers = [
        peer
        for direction in (INGRESS, EGRESS)
        for rule in policy.rules.get(direction, ())
        for peer in rule.peers
        if isinstance(peer, Group)
    ]
    return [policy.subject, *peers]
