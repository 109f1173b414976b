"""Fleets of several shapes, by the number of their members: what fails together is not alike everywhere.

    even      three regions of three zones each, and as many members in each zone
    lopsided  half of all members are in one zone, so that its loss looks like the server's own
    islands   every member is a zone of its own
    single    all members are in one zone

The first members have the names of the small fleet that every seed plays unless asked otherwise. Room differs from member
to member, and is scarce: there are fewer places than a busy history may ask for.
"""

from collections.abc import Mapping, Sequence

from federation.simulator.member import Place

NAMES = ("alpha", "beta", "gamma", "delta", "epsilon")
SMALL = (
    Place("alpha", "region-1", "zone-a", 12),
    Place("beta", "region-1", "zone-b", 9),
    Place("gamma", "region-2", "zone-c", 15),
    Place("delta", "region-2", "zone-c", 6),
    Place("epsilon", "region-1", "zone-b", 8),
)
"""Five members in three zones; losing a zone of two is no loss of most."""
EVEN, LOPSIDED, ISLANDS, SINGLE = SHAPES = ("even", "lopsided", "islands", "single")
ZONES, REGIONS = 9, 3
PODS = (6, 9, 12, 15)
MESH_MAX = 24


def _zone(number: int, clusters: int, shape: str) -> int:
    """The zone of a member."""
    match shape:
        case "islands":
            return number
        case "single":
            return 0
        case "lopsided":
            return 0 if 2 * number < clusters else 1 + number % (ZONES - 1)
        case _:
            return number % ZONES


def fleet(clusters: int, shape: str = EVEN) -> Sequence[Place]:
    """So many members. Raises ValueError for a shape that is not known."""
    if shape not in SHAPES:
        raise ValueError(f'unknown shape "{shape}": one of {", ".join(SHAPES)}')
    if clusters < len(NAMES):
        raise ValueError(f"a fleet has {len(NAMES)} members at least")
    names = [*NAMES, *(f"member-{number:04}" for number in range(len(NAMES), clusters))]
    places = []
    for number, name in enumerate(names):
        zone = _zone(number, clusters, shape)
        region = f"region-{zone % REGIONS}"
        places.append(Place(name, region, f"zone-{zone}", PODS[number % len(PODS)]))
    return places


def meshed(places: Sequence[Place]) -> Sequence[str]:
    """Members that probe one another: all of a small fleet, and some of each part of a big one.

    Everybody's word on everybody is the square of the fleet, and each ClusterNetwork goes to every member besides.
    """
    step = max(1, -(-len(places) // MESH_MAX))
    return [place.name for place in places[::step]]


def zones_of(places: Sequence[Place]) -> Mapping[str, Sequence[str]]:
    """Zone -> members."""
    zones: dict[str, list[str]] = {}
    for place in places:
        zones.setdefault(place.zone, []).append(place.name)
    return zones
