"""`fedctl divide`: what it reads, prints and refuses."""

import io
import json
from typing import Any

import pytest
from tests.unit.placement.vectors import VECTORS, Vector

from federation.cli import main

BASE: dict[str, Any] = {
    "planner": "v1",
    "total": 50,
    "clusters": ["A", "B"],
    "preferences": {"*": {"minReplicas": 0, "maxReplicas": 10, "weight": 1}},
    "rebalance": False,
    "current": {},
    "capacity": {},
    "key": "ns/name",
}


def typed(monkeypatch: pytest.MonkeyPatch, text: str | bytes, *words: str) -> int:
    data = text.encode() if isinstance(text, str) else text
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    return main(["divide", *words])


@pytest.mark.parametrize("planner", ["v1", "v2", "webster"])
def test_json(
    planner: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    question = json.dumps(BASE | {"planner": planner})
    assert typed(monkeypatch, question, "-o", "json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"plan": {"A": 10, "B": 10}, "overflow": {}}
    assert captured.err == ""


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: " ".join(v.text.split()))
def test_published_vectors(
    vector: Vector, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = vector.question
    wanted = {}
    for name, p in asked.preferences.items():
        wanted[name] = {"minReplicas": p.min_replicas, "weight": p.weight}
        if p.max_replicas is not None:
            wanted[name]["maxReplicas"] = p.max_replicas
    question = {
        "planner": "v1",
        "total": asked.total,
        "clusters": list(asked.clusters),
        "preferences": wanted,
        "rebalance": asked.rebalance,
        "current": asked.current,
        "capacity": asked.capacity,
    }
    assert typed(monkeypatch, json.dumps(question), "-o", "json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"plan": vector.plan, "overflow": vector.overflow}


def test_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    question = json.dumps(BASE | {"capacity": {"A": 4}})
    assert typed(monkeypatch, question) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["CLUSTER", "REPLICAS", "OVERFLOW"],
        ["A", "4", "6"],
        ["B", "10", "-"],
        ["36", "of", "50", "replicas", "have", "no", "place."],
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"planner": "v3"}, "v3"),
        ({"planner": None}, "planner"),
        ({"total": -1}, ">= 0"),
        ({"total": 2**31}, "<= 2147483647"),
        ({"total": "50"}, "total"),
        ({"clusters": ["A", "B", "A"]}, "A more than once"),
        ({"clusters": ["*"]}, "is no cluster"),
        ({"clusters": [""]}, "clusters"),
        ({"preferences": {"A": {"weight": -1}}}, "preferences"),
        ({"preferences": {"A": {"weigth": 1}}}, "weigth"),
        ({"preferences": {"A": {"minReplicas": 2, "maxReplicas": 1}}}, "more than maxReplicas"),
        ({"current": {"A": -3}}, "current"),
        ({"capacity": []}, "capacity"),
        ({"rebalance": "yes"}, "rebalance"),
        ({"replicas": 3}, "unknown field"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_bad_questions(
    change: dict[str, Any],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert typed(monkeypatch, json.dumps(BASE | change), "-o", "json") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("text", ["", "{", "[]", "50", b"\xff\xfe", '{"planner": "v1"}'])
def test_no_question(
    text: str | bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, text) == 2
    assert capsys.readouterr().err.startswith("error: the question on standard input:")


def test_what_changes_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = BASE | {"planner": "webster", "current": {"A": 3}, "capacity": {"Z": 1}}
    assert typed(monkeypatch, json.dumps(said), "-o", "json") == 0
    warnings = capsys.readouterr().err
    assert "capacity: Z is not among the clusters" in warnings
    assert "webster divides by weight, whatever runs" in warnings
