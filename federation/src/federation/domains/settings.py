"""What the operator set: the federation's own defaults, with what FederationConfig `default` says over them. Pure."""

from dataclasses import dataclass, field, replace

from federation.domains.clock import FailureClock
from machinery.api.fleet.resilience import FederationConfig, MaintenanceWindow

ENABLED, DRY_RUN, FROZEN = "Enabled", "DryRun", "Frozen"


@dataclass(frozen=True, slots=True)
class Settings:
    """`failover` is the kill switch; the rest are seconds and a rate."""

    clock: FailureClock = field(default_factory=FailureClock)
    failover: str = ENABLED
    failback: bool = True
    stabilization_s: float = 300.0
    """How long the fleet must be well before anything moves back."""
    failback_per_minute: int = 60
    """Workloads that begin to move back, in a minute."""
    failback_windows: tuple[MaintenanceWindow, ...] = ()
    failback_time_zone: str = ""
    empties: bool = False
    """Whether clusters that are selected and get no replica get the workload all the same, with none."""


def effective(base: Settings, config: FederationConfig | None) -> Settings:
    """`base` with the operator's words over it."""
    if config is None:
        return base
    spec = config.spec
    overrides = {
        "suspect_s": spec.clock.suspect_seconds,
        "unreachable_s": spec.clock.unreachable_seconds,
        "zone_s": spec.clock.zone_seconds,
        "link_cut_s": spec.clock.link_cut_seconds,
    }
    clock = replace(base.clock, **{k: v for k, v in overrides.items() if v is not None})
    clock = replace(
        clock,
        unreachable_s=max(clock.unreachable_s, clock.suspect_s),
        zone_s=max(clock.zone_s, clock.unreachable_s, clock.suspect_s),
        link_cut_s=max(clock.link_cut_s, clock.unreachable_s) if clock.link_cut_s else 0.0,
    )
    back = spec.failback
    window, rate = back.stabilization_seconds, back.rate_per_minute
    return Settings(
        clock,
        spec.failover,
        back.mode != "Never",
        base.stabilization_s if window is None else window,
        base.failback_per_minute if rate is None else rate,
        back.windows,
        back.time_zone,
        spec.empty_workloads == "Propagated",
    )
