"""Making faults real, and ending them: the hands of `fedctl lab kill|revive|cut|heal|slow|freeze|thaw`.

Each command loads the faults, writes what is wanted, then makes the lab so; each step looks first, so that all of it may be
repeated after a kill in the middle. Only the lab's own namespaces, control groups and processes are touched.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from federation.lab import cgroups, channel, faults, hosts, network, state
from federation.lab.faults import FaultError, Faults, Mark, Slow
from federation.lab.plan import HostPlan, LabPlan
from federation.lab.process import Spec, Status
from machinery.kit.clock import Clock

KILL_S = 10.0
LINE_S = 15.0


class Injector:
    """Faults of one lab."""

    def __init__(self, plan: LabPlan, clock: Clock) -> None:
        self._plan = plan
        self._directory = plan.spec.directory
        self._clock = clock

    # ------------------------------------------------------------------------------------------------ power
    def kill(self, word: str) -> str:
        """A power cut: links down, every process of the place's hosts and containers dead, their memory gone."""
        place = self._place(word)
        self._statuses()  # without a supervisor nothing is begun
        self._save(faults.kill(self._load(), place), f"kill {place}")
        self._cut_power(faults.places(self._plan)[place])
        return f"{place} is off"

    def revive(self, word: str) -> str:
        """Power is back: hosts boot, the supervisor starts their processes in order. One that is on is left alone."""
        place = self._place(word)
        before = self._load()
        on = faults.places(self._plan)[place]
        after = faults.revive(before, place)
        if place in before.off:
            self._cut_power(on)  # a `kill` may have been killed half-way
            hosts.switch_on(self._plan, on)
            self._save(after, f"revive {place}")
        self._connect(after)
        self._ask("power", hosts=[host.name for host in on], on=True)
        return f"{place} is on" + ("; its processes start" if place in before.off else "")

    def _cut_power(self, off: Sequence[HostPlan]) -> None:
        """Links first: nobody shall hear a dying process say good-bye."""
        names = [host.name for host in off]
        if self._supervised():
            self._ask("power", hosts=names, on=False)
        down = "".join(f"link set {network.port(self._plan, host)} down\n" for host in off)
        hosts.in_wan(self._plan, ("ip", "-force", "-batch", "-"), down, check=False)
        self._kill_processes(set(names))
        hosts.switch_off(self._plan, off)

    def _kill_processes(self, names: set[str]) -> None:
        """Until none is left: a process may have forked while we looked."""
        deadline = self._clock.monotonic() + KILL_S
        while True:
            known = self._statuses() if self._supervised() else []
            pids = {s.pid for s in known if s.host in names and s.pid}
            for name in names:
                pids |= cgroups.processes(f"{self._plan.cgroup}/{name}")
            if not pids - {os.getpid()}:
                return
            if self._clock.monotonic() > deadline:
                raise FaultError(f"processes outlived SIGKILL: {sorted(pids)}; repeat the command")
            for pid in pids - {os.getpid()}:
                _kill(pid)
            for name in names:
                cgroups.thaw(f"{self._plan.cgroup}/{name}")
            time.sleep(0.02)

    # ------------------------------------------------------------------------------------------------ lines
    def cut(self, word: str, other: str, *, one_way: bool) -> str:
        """Packets are lost in the WAN; links stay up."""
        place, far = self._place(word), self._place(other) if other else ""
        after = faults.cut(self._plan, self._load(), place, far, one_way=one_way)
        return self._lines(after, f"cut {place}{_from(far, one_way)}")

    def heal(self, word: str, other: str, *, one_way: bool) -> str:
        """The opposite of `cut` and of `slow`."""
        place, far = self._place(word), self._place(other) if other else ""
        after = faults.heal(self._plan, self._load(), place, far, one_way=one_way)
        return self._lines(after, f"heal {place}{_from(far, one_way)}")

    def slow(self, word: str, how: Slow) -> str:
        """A place's line has latency and loss."""
        place = self._place(word)
        after = faults.slow(self._load(), place, how)
        if how.latency_ms and not os.path.exists("/dev/net/tun"):
            raise FaultError("--latency needs /dev/net/tun, which is not here; --loss alone works")
        return self._lines(after, f"slow {place} {how.latency_ms:g} ms {how.loss_percent:g} %")

    def _lines(self, after: Faults, what: str) -> str:
        self._save(after, what)
        self._connect(after)
        return "\n".join(faults.describe(after)) or "no fault is left"

    def _connect(self, wanted: Faults) -> None:
        """Make lines and losses as wanted, whatever they are now."""
        hosts.in_wan(self._plan, ("nft", "-f", "-"), faults.ruleset(self._plan, wanted))
        links = self._links()
        for place in faults.places(self._plan):
            how = wanted.slow.get(place, Slow())
            if how.latency_ms:
                self._lay_line(place, how, links)
            elif faults.bridge(self._plan, place) in links:
                self._remove_line(place, links)

    def _lay_line(self, place: str, how: Slow, links: set[str]) -> None:
        """Bridge, relay, and only when that works the cables: the zone is never without a line for long."""
        bridge = faults.bridge(self._plan, place)
        if bridge not in links:
            self._ip(f"link add {bridge} type bridge forward_delay 0", f"link set {bridge} up")
        self._ask("start", processes=[msgspec.to_builtins(line_spec(self._plan, place, how))])
        deadline = self._clock.monotonic() + LINE_S
        while not set(faults.taps(self._plan, place)) <= self._links():
            if self._clock.monotonic() > deadline:
                raise FaultError(f"the line of {place} did not come up; see {line_name(place)}.log")
            time.sleep(0.05)
        self._move(place, bridge, links)

    def _remove_line(self, place: str, links: set[str]) -> None:
        self._move(place, network.WAN, links)
        self._ask("stop", names=[line_name(place)])
        self._ip(f"link del {faults.bridge(self._plan, place)}")

    def _move(self, place: str, bridge: str, links: set[str]) -> None:
        """A place without power has no cables."""
        ports = [network.port(self._plan, host) for host in faults.places(self._plan)[place]]
        self._ip(*(f"link set {port} master {bridge}" for port in ports if port in links))

    def _links(self) -> set[str]:
        shown = json.loads(hosts.in_wan(self._plan, ("ip", "-json", "link", "show")))
        return {link["ifname"] for link in shown}

    def _ip(self, *lines: str) -> None:
        hosts.in_wan(self._plan, ("ip", "-batch", "-"), "\n".join(lines) + "\n")

    # ------------------------------------------------------------------------------------------------ all
    def switch_on_all(self, report: Callable[[str], None]) -> None:
        """`up`, before there is a supervisor for sure: hosts without power are booted."""
        for place in self._load().off:
            report(f"{place} gets its power back")
            self._cut_power(faults.places(self._plan)[place])
            hosts.switch_on(self._plan, faults.places(self._plan)[place])

    def end_all(self, report: Callable[[str], None]) -> None:
        """`up`, with a supervisor: no fault is left."""
        for status in self._statuses():
            if status.frozen:
                report(f"{status.name} is thawed")
                self._ask("thaw", name=status.name)
        before = self._load()
        if before == Faults():
            return
        for line in faults.describe(before):
            report(f"ending a fault: {line}")
        self._connect(Faults())
        off = [h.name for place in before.off for h in faults.places(self._plan)[place]]
        self._ask("power", hosts=off, on=True)
        self._save(Faults(), "up")

    # ------------------------------------------------------------------------------------------------ small things
    def _place(self, word: str) -> str:
        if not self._plan.spec.rooted:
            raise FaultError("a lab without root has no hosts and no links: only freeze and thaw")
        return faults.place_of(self._plan, word)

    def _load(self) -> Faults:
        return faults.load(self._directory)

    def _save(self, after: Faults, what: str) -> None:
        faults.save(self._directory, after)
        faults.record(self._directory, Mark(self._clock.now().timestamp(), what))

    def _ask(self, verb: str, **words: Any) -> None:
        answer = channel.ask(self._directory, verb, **words)
        if "error" in answer:
            raise FaultError(f"the supervisor refused: {answer['error']}")

    def _supervised(self) -> bool:
        try:
            channel.ask(self._directory, "status")
        except channel.NoSupervisor:
            return False
        return True

    def _statuses(self) -> list[Status]:
        return msgspec.convert(channel.ask(self._directory, "status")["processes"], list[Status])


def freeze(directory: str, name: str, clock: Clock, *, thaw: bool) -> str:
    """SIGSTOP one process, or SIGCONT it. Raises FaultError, NoSupervisor."""
    answer = channel.ask(directory, "thaw" if thaw else "freeze", name=name)
    if "error" in answer:
        known = [p["name"] for p in channel.ask(directory, "status")["processes"]]
        raise FaultError(f"there is no process {name!r}; there is {', '.join(known)}")
    if not answer["pid"]:
        raise FaultError(f"{name} does not run")
    what = "thaw" if thaw else "freeze"
    faults.record(directory, Mark(clock.now().timestamp(), f"{what} {name}"))
    return f"{name} (process {answer['pid']}) {'runs' if thaw else 'is frozen'}"


def line_name(place: str) -> str:
    """The relay's name among the lab's processes."""
    return f"line-{place}"


def line_spec(plan: LabPlan, place: str, how: Slow) -> Spec:
    """The relay of a place whose line has latency."""
    inside, outside = faults.taps(plan, place)
    command = (
        *("nsenter", f"--net={hosts.namespaces(plan.spec.directory)}/{network.WAN}.net", "--"),
        *(sys.executable, "-m", "federation.lab.wan", "--latency-ms", f"{how.latency_ms:g}"),
        *("--inside", inside, faults.bridge(plan, place), "--outside", outside, network.WAN),
    )
    return Spec(line_name(place), command)


def injector(directory: str, clock: Clock) -> Injector:
    """For the lab in `directory`. Raises FaultError."""
    known = state.load(directory)
    if known is None or (known.spec.rooted and not state.hosts_made(directory)):
        raise FaultError("no lab runs here: `fedctl lab up` starts one")
    return Injector(known.plan(), clock)


def _from(far: str, one_way: bool) -> str:
    return (f" --from {far}" if far else "") + (" --one-way" if one_way else "")


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
