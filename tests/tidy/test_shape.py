"""Sizes, docstrings, nothing unfinished, and the shape of controllers and tests."""

import ast

import pytest
from tests.tidy import controllers, tree

FUNCTION_LINES = 70
MODULE_LINES = 600
LONGER_FUNCTIONS: dict[str, int] = {}
"""`path:function` -> lines it may have. Entries only go down; one that is not needed any more must go."""
LONGER_MODULES: dict[str, int] = {}
UNFINISHED = ("TO" + "DO", "FIX" + "ME", "XX" + "X:", "NotImplemented" + "Error", "HA" + "CK")
CODE = ("machinery/", "federation/", "cluster-agent/", "migrations/", "tests/")


def test_no_function_is_longer_than_a_page() -> None:
    found = {f"{f}:{name}": n for f in tree.python(*CODE) for name, n in tree.functions(f)}
    too_long = {k: n for k, n in found.items() if n > LONGER_FUNCTIONS.get(k, FUNCTION_LINES)}
    assert too_long == {}


def test_no_module_is_longer_than_six_hundred_lines() -> None:
    found = {f: tree.text(f).count("\n") for f in tree.python(*CODE)}
    too_long = {f: n for f, n in found.items() if n > LONGER_MODULES.get(f, MODULE_LINES)}
    assert too_long == {}


def test_exceptions_of_size_are_still_needed() -> None:
    modules = {f for f in LONGER_MODULES if tree.text(f).count("\n") > MODULE_LINES}
    functions = {
        f"{f}:{name}"
        for f in tree.python(*CODE)
        for name, n in tree.functions(f)
        if n > FUNCTION_LINES
    }
    assert modules == set(LONGER_MODULES)
    assert set(LONGER_FUNCTIONS) <= functions


def test_every_module_says_what_it_is() -> None:
    silent = [f for f in tree.python(*CODE) if not ast.get_docstring(tree.parsed(f))]
    assert silent == []


def test_every_package_has_an_init() -> None:
    folders = {f.rpartition("/")[0] for f in tree.sources()}
    assert [d for d in sorted(folders) if f"{d}/__init__.py" not in tree.files()] == []


def test_nothing_is_left_for_later() -> None:
    marked = [f"{f}: {word}" for f in tree.sources() for word in UNFINISHED if word in tree.text(f)]
    assert marked == []


# ---------------------------------------------------------------------------------------------------- controllers
@pytest.mark.parametrize("found", controllers.controllers(), ids=lambda f: f"{f.room}.{f.name}")
def test_a_controller_has_plan_and_setup(found: controllers.Found) -> None:
    assert found.plans, f"{found.name} has no function plan"
    assert found.wires, f"{found.name} has no function setup"


@pytest.mark.parametrize("found", controllers.helpers(), ids=lambda f: f"{f.room}.{f.name}")
def test_a_helper_is_no_controller(found: controllers.Found) -> None:
    assert not found.wires, f"{found.name} wires a controller up: take it off the list of helpers"


def test_helpers_on_the_list_exist() -> None:
    names = {(child.room, child.name) for child in controllers.children()}
    listed = {(room, name) for room, helpers in controllers.HELPERS.items() for name in helpers}
    assert listed <= names


def test_every_controller_is_started_by_somebody() -> None:
    registries = [f for f in tree.sources() if f.endswith("controllers/registry.py")]
    named = set().union(*(tree.imported(f) for f in registries))
    idle = [f"{c.room}.{c.name}" for c in controllers.controllers() if not _named(c, named)]
    assert idle == []


def _named(found: controllers.Found, imported: set[str]) -> bool:
    name = f"{found.room}.{found.name}"
    return name in imported or any(other.startswith(name + ".") for other in imported)


# ---------------------------------------------------------------------------------------------------------- tests
def test_every_test_file_asserts_something() -> None:
    empty = []
    for file in tree.tests():
        if _holds_assert(tree.parsed(file)):
            continue
        helpers = _helpers_that_assert(file)
        if not any(_asserts(node, helpers) for node in ast.walk(tree.parsed(file))):
            empty.append(file)
    assert empty == []


def _helpers_that_assert(file: str) -> set[str]:
    """Functions imported from other files of tests/ that assert, for files that only hand cases to them."""
    names: set[str] = set()
    for module in tree.imported(file):
        path = module.replace(".", "/") + ".py"
        if path in tree.files():
            kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
            for node in tree.parsed(path).body:
                if isinstance(node, kinds) and _holds_assert(node):
                    names.add(node.name)
    return names


def _holds_assert(node: ast.AST) -> bool:
    return any(isinstance(inner, ast.Assert) for inner in tree.statements([node]))


def _asserts(node: ast.AST, helpers: set[str]) -> bool:
    if isinstance(node, ast.Assert):
        return True
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name == "raises" or name in helpers


def test_every_skip_has_a_reason() -> None:
    bare = [
        f"{file}:{getattr(node, 'lineno', 0)}"
        for file in tree.python("tests/")
        if "skip" in tree.text(file) or "xfail" in tree.text(file)
        for node in ast.walk(tree.parsed(file))
        if _is_skip(node) and not _has_reason(node)
    ]
    assert bare == []


def _is_skip(node: ast.AST) -> bool:
    names = ("skip", "skipif", "xfail")
    if isinstance(node, ast.Attribute):
        return False
    return isinstance(node, ast.Call) and getattr(node.func, "attr", "") in names


def _has_reason(node: ast.AST) -> bool:
    assert isinstance(node, ast.Call)
    attribute = node.func
    assert isinstance(attribute, ast.Attribute)
    if any(keyword.arg == "reason" for keyword in node.keywords):
        return True
    return attribute.attr in ("skip", "xfail") and bool(node.args)
