"""Label and field selectors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machinery.meta import selectors

LABELS = {"app": "web", "tier": "front", "size": "5", "empty": ""}
MATCHES = [
    ("", True), ("app=web", True), ("app==web", True), ("app=x", False), ("app!=x", True), ("app!=web", False),
    ("none!=x", True), ("app", True), ("none", False), ("!none", True), ("!app", False), ("! none", True),
    ("app in (web,x)", True), ("app in (x)", False), ("app notin (x)", True), ("none notin (x)", True),
    ("app notin (web)", False), ("size>4", True), ("size>5", False), ("size<6", True), ("app>1", False),
    ("app=web,tier=front", True), ("app=web,tier=x", False), (" app = web , tier", True), ("empty=", True),
    ("empty=,app", True), ("app in (web, x),!none", True), ("empty in (,x)", True), ("app=", False),
]  # fmt: skip
REFUSED = [
    "app in web", "app in (web", "=web", ",app", "app,,tier", "app=web,", "app web", "a b=c", "app>x", "x/y/z=1",
    "app=w b", "(app)", "app=!", "app in (a b)", "app=-x",
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), MATCHES)
def test_matching(text: str, expected: bool) -> None:
    assert selectors.parse(text).matches(LABELS) is expected


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    with pytest.raises(selectors.SelectorError):
        selectors.parse(text)


WORDS = st.from_regex(r"[a-z]([a-z0-9]{0,4}[a-z0-9])?", fullmatch=True)


@given(st.dictionaries(WORDS, WORDS, max_size=4))
def test_an_equality_selector_selects_its_own_labels_and_survives_its_text(
    pairs: dict[str, str],
) -> None:
    selector = selectors.parse(",".join(f"{k}={v}" for k, v in pairs.items()))
    assert selector.matches(pairs)
    assert selectors.parse(str(selector)) == selector


OBJECTS = [
    (None, False),
    ({}, True),
    ({"matchLabels": {"app": "web"}}, True),
    ({"matchLabels": {"app": "x"}}, False),
    ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}, True),
    ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
    ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
    ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
    (
        {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "x", "operator": "Exists"}]},
        False,
    ),
]


@pytest.mark.parametrize(("selector", "expected"), OBJECTS)
def test_object_form(selector: dict[str, object] | None, expected: bool) -> None:
    assert selectors.from_object(selector).matches(LABELS) is expected


def test_an_unknown_operator_is_refused() -> None:
    with pytest.raises(
        selectors.SelectorError, match='"Gt" is not a valid label selector operator'
    ):
        selectors.from_object(
            {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}
        )


@pytest.mark.parametrize(
    ("text", "fields", "expected"),
    [
        ("metadata.name=a", {"metadata.name": "a"}, True),
        (
            "metadata.name==a,status.phase!=Running",
            {"metadata.name": "a", "status.phase": "Failed"},
            True,
        ),
        ("metadata.name!=a", {"metadata.name": "a"}, False),
        ("spec.nodeName=", {"spec.nodeName": ""}, True),
        (r"x=a\,b", {"x": "a,b"}, True),
        (r"x=a\=b", {"x": "a=b"}, True),
        ("", {}, True),
    ],
)
def test_field_selectors(text: str, fields: dict[str, str], expected: bool) -> None:
    assert selectors.parse_fields(text).matches(fields) is expected


@pytest.mark.parametrize("text", ["name", "a=b=c", "a=b\\c", "a>b"])
def test_refused_field_selectors(text: str) -> None:
    with pytest.raises(selectors.SelectorError):
        selectors.parse_fields(text)


def test_the_one_value_that_an_index_can_answer() -> None:
    selector = selectors.parse("app=web,tier in (a,b)")
    assert (selector.exact("app"), selector.exact("tier"), selector.exact("x")) == (
        "web",
        None,
        None,
    )
