"""The sandbox: values in and out, and what no script may do to its host."""

import time
from typing import Any

import pytest

from machinery.scripts import lua
from machinery.scripts.lua import ScriptError

DOCUMENT = {
    "apiVersion": "example.io/v1",
    "metadata": {"name": "x", "labels": {}},
    "spec": {"replicas": 3, "share": 0.5, "paused": False, "args": [], "list": [1, {"a": [2]}]},
}


def returns(text: str, *args: Any, **named: Any) -> Any:
    """What `return text` comes to; arguments are a, b."""
    return lua.call(f"function F(a, b) return {text} end", "F", *args, **named)


def does(text: str) -> Any:
    return lua.call(f"function F() {text} end", "F")


def test_a_document_comes_back_as_it_went_in() -> None:
    assert returns("a", DOCUMENT, likeness=DOCUMENT) == [DOCUMENT]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("1, 'x', nil, true", [1, "x", None, True]),
        ("{1, 2}", [[1, 2]]),
        ("{a = {}}", [{"a": []}]),
        ("{[1] = 'a', x = 'b'}", [{"1": "a", "x": "b"}]),
        ("2^40, 1/4", [2**40, 0.25]),
        ("a.b == nil, b.x == nil", [True, True]),
    ],
)
def test_values(text: str, result: list[Any]) -> None:
    assert returns(text, {"b": None}, {}) == result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("local t = {3, 1, 2}; table.sort(t); return t", [[1, 2, 3]]),
        ("local t = {1, 3, 2}; table.sort(t, function(x, y) return x > y end); return t", [[3, 2, 1]]),
        ("return string.match('web:1', '^(.-):(.*)$')", ["web", "1"]),
        ("return ('a-b'):gsub('-', '+')", ["a+b", 1]),
        ("return ('x'):rep(3), #'abc'", ["xxx", 3]),
        ("return pcall(error, 'no')", [False, "no"]),
        ("return tonumber('12'), tostring(3), math.max(1, 2)", [12, "3", 2]),
    ],
)  # fmt: skip
def test_the_language(text: str, result: list[Any]) -> None:
    assert does(text) == result


ENDLESS = [
    "while true do end",
    "while true do pcall(function() while true do end end) end",
    "while true do xpcall(function() error('x') end, function() while true do end end) end",
    "local function f() return f() end return f()",
    "local s = 'x' while true do s = s .. s end",
    "local s = ('x'):rep(900000) local n while true do n = s .. 'y' end",
    "local t = {} for i = 1, 1e7 do t[i] = i end",
    "local t = {} for i = 1, 1e6 do table.insert(t, 1, i) end",
    "return ('a'):rep(1e5):find('.-.-.-.-b')",
    "return ('a'):rep(1e5):match(('a*'):rep(20) .. 'b')",
    "return ('a'):rep(1e6):find(('a'):rep(5e5) .. 'b', 1, true)",
    "return ('a'):rep(1e12)",
    "return unpack({}, 1, 1e8)",
    "local t = {} for i = 1, 5e4 do t[i] = -i end table.sort(t, function() return true end)",
]


@pytest.mark.parametrize("text", ENDLESS)
def test_whatever_never_ends_is_ended(text: str) -> None:
    started = time.thread_time()
    with pytest.raises(ScriptError):
        does(text)
    assert time.thread_time() - started < 4 * lua.SECONDS_MAX
    assert does("return 1") == [1]


@pytest.mark.parametrize(
    "name",
    [
        "os", "io", "debug", "package", "python", "load", "loadstring", "loadfile", "dofile", "module",
        "getfenv", "setfenv", "collectgarbage", "newproxy", "coroutine", "string.dump", "math.random",
    ],
)  # fmt: skip
def test_nothing_leads_out(name: str) -> None:
    assert does(f"return {name}") == [None]


def test_the_methods_of_text_are_the_bounded_ones_and_nobody_can_change_them() -> None:
    assert does("return getmetatable('')") == [None]
    assert does("string.rep = function() return 'mine' end return ('x'):rep(2)") == ["xx"]
    assert does("return ('x'):rep(2), string.rep('x', 2)") == ["xx", "xx"]


def test_a_call_leaves_nothing_to_the_next() -> None:
    script = "count = (count or 0) + 1; string.marked = true; function F() return count, string.marked end"
    assert [lua.call(script, "F") for _ in range(2)] == [[1, True], [1, True]]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("return 1 / 0", "no finite number"),
        ("return 0 / 0", "no finite number"),
        ("local t = {} t.t = t return t", "too large"),
        ("return print", "no document"),
        ("return require('kube').guess", "kube.guess is not offered here"),
        ("return require('socket')", "module socket is not offered"),
        ("error({})", "no text"),
        ("error('out of luck')", "out of luck"),
        ("return nil + 1", "arithmetic"),
        ("return '\\255'", "UTF-8"),
    ],
)
def test_what_is_no_answer(text: str, why: str) -> None:
    with pytest.raises(ScriptError, match=why):
        does(text)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("function F( return end", "near 'return'"),
        ("\x1bLua", "bytecode"),
        ("x" * (lua.SCRIPT_MAX + 1), "longer than"),
        ("function F() return 1 end", ""),
    ],
)
def test_what_is_no_script(script: str, why: str) -> None:
    said = lua.why_not(script)
    assert (why in said) if why else not said


def test_a_script_without_the_function() -> None:
    with pytest.raises(ScriptError, match="no function Other"):
        lua.call("function F() end", "Other")


def test_offered_functions_get_documents_and_their_errors_are_text() -> None:
    def double(value: dict[str, Any]) -> list[int]:
        return [2 * n for n in value["n"]]

    library = {"double": double}
    ask = "require('kube').double({n = {1, 2}})"
    assert returns(ask, library=library) == [[2, 4]]
    found = returns("pcall(require('kube').double, {})", library=library)
    assert found == [False, "list indices must be integers or slices, not str"]
    with pytest.raises(ScriptError):
        returns("require('kube').double({})", library=library)
