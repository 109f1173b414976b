"""Which families of addresses a Service has, on a cluster that has one or both. Pure, in the order of upstream's checks."""

from collections.abc import Sequence

from machinery.api.services import NONE, is_headless
from machinery.api.validation import services as rules
from machinery.api.validation.causes import Causes
from machinery.meta.errors import invalid
from machinery.meta.resource import Document

SINGLE, PREFER, REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"
_OTHER = {"IPv4": "IPv6", "IPv6": "IPv4"}


def with_families(
    spec: Document, before: Document | None, configured: Sequence[str], name: str
) -> Document:
    """The spec with ipFamilies and ipFamilyPolicy. `configured` are the cluster's families, the default one first.

    Raises Invalid for what does not fit together, or not on this cluster.
    """
    if spec.get("type") == "ExternalName" or _stays_preferred(spec, before):
        return spec
    spec = _trimmed(spec, before) if before is not None else dict(spec)
    causes = Causes()
    rules.families(spec, causes)
    _refuse(name, causes)
    wanted = list(spec.get("ipFamilies") or ())
    several = [text for text in spec.get("clusterIPs") or () if text != NONE]
    if spec.get("ipFamilyPolicy") is None and (len(several) == 2 or len(wanted) == 2):
        spec["ipFamilyPolicy"] = REQUIRE
    _infer(wanted, several, configured, causes)
    _refuse(name, causes)
    if is_headless(spec) and not spec.get("selector"):
        return _headless(spec, wanted, configured)
    _configured(spec, wanted, configured, causes)
    _refuse(name, causes)
    if not wanted:
        wanted = [configured[0]]
    policy = spec.setdefault("ipFamilyPolicy", SINGLE)
    if policy != SINGLE and len(wanted) == 1 and len(configured) == 2:
        wanted.append(_OTHER[wanted[0]])
    spec["ipFamilies"] = wanted
    return spec


def _refuse(name: str, causes: Causes) -> None:
    if causes:
        raise invalid("Service", "", name, causes)


def _stays_preferred(spec: Document, before: Document | None) -> bool:
    """A PreferDualStack Service keeps what it has when the cluster changes, until somebody changes the Service."""
    if before is None or spec.get("ipFamilyPolicy") != PREFER:
        return False
    return all(
        spec.get(k) == before.get(k) for k in ("type", "ipFamilyPolicy", "clusterIPs", "ipFamilies")
    )


def _trimmed(spec: Document, before: Document) -> Document:
    """Who turns to SingleStack need not name what goes."""
    out = dict(spec)
    if spec.get("ipFamilyPolicy") == SINGLE:
        for key in ("clusterIPs", "ipFamilies"):
            if len(spec.get(key) or ()) == 2 and spec[key] == before.get(key):
                out[key] = spec[key][:1]
    return out


def _infer(
    wanted: list[str], several: Sequence[str], configured: Sequence[str], causes: Causes
) -> None:
    for index, text in enumerate(several):
        if index < len(wanted):
            continue
        family = rules.family_of(text)
        if configured and family not in configured:
            field = f"spec.clusterIPs[{index}]"
            causes.invalid(field, list(several), f"{family} is not configured on this cluster")
        else:
            wanted.append(family)


def _headless(spec: Document, wanted: list[str], configured: Sequence[str]) -> Document:
    """Endpoints of a headless Service without selector are the user's: of both families unless told otherwise."""
    if not wanted:
        wanted = [configured[0]]
    if len(wanted) < 2 and spec.get("ipFamilyPolicy") != SINGLE:
        wanted.append(_OTHER[wanted[0]])
    spec["ipFamilies"] = wanted
    spec.setdefault("ipFamilyPolicy", REQUIRE if len(wanted) == 2 else SINGLE)
    return spec


def _configured(
    spec: Document, wanted: Sequence[str], configured: Sequence[str], causes: Causes
) -> None:
    policy = spec.get("ipFamilyPolicy")
    if policy == REQUIRE and len(configured) < 2:
        causes.invalid(
            "spec.ipFamilyPolicy", policy, "this cluster is not configured for dual-stack services"
        )
    for index, family in enumerate(wanted):
        if family not in configured:
            causes.invalid(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")
