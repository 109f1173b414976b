"""What macros of two variables become (`source`): a list or map as pairs, their halves, and a map made of pairs again."""

from typing import Any, Final

from machinery.api.expressions.functions.shape import PAIR, Function, Value, free


def _of_map(items: dict[Any, Value]) -> list[Value]:
    return [[key, items[key]] for key in items]


def _of_list(items: list[Value]) -> list[Value]:
    return [[at, one] for at, one in enumerate(items)]


def _to_map(items: list[Value]) -> dict[Any, Value]:
    out: dict[Any, Value] = {}
    for key, one in items:
        _insert(out, key, one)
    return out


def _merged(items: list[dict[Any, Value]]) -> dict[Any, Value]:
    out: dict[Any, Value] = {}
    for entry in items:
        for key, one in entry.items():
            _insert(out, key, one)
    return out


def _insert(out: dict[Any, Value], key: Any, one: Value) -> None:
    if key in out:
        raise ValueError(f"insert failed: key {key} already exists")
    out[key] = one


FUNCTIONS: Final = (
    Function("pairs__", "list_pairs", ("list<~A>",), f"list<{PAIR}<int,~A>>", _of_list),
    Function("pairs__", "map_pairs", ("map<~K,~A>",), f"list<{PAIR}<~K,~A>>", _of_map),
    Function("key__", "pair_key", (f"{PAIR}<~K,~A>",), "~K", lambda pair: pair[0]),
    Function("value__", "pair_value", (f"{PAIR}<~K,~A>",), "~A", lambda pair: pair[1]),
    free("pair__", "pair_made", ("~K", "~A"), f"{PAIR}<~K,~A>", lambda key, one: [key, one]),
    Function("map__", "pairs_map", (f"list<{PAIR}<~K,~A>>",), "map<~K,~A>", _to_map),
    Function("merged__", "maps_merged", ("list<map<~K,~A>>",), "map<~K,~A>", _merged),
)
