"""One call of a user's Lua function on plain documents, with bounds on steps, time, memory and what comes back.

Lua 5.1, since that is the language of Karmada's interpreters, so their published scripts run as they are. `prelude.lua` makes the
sandbox; here values go in and out. A runtime is made at the first call in a thread: who has no scripts pays nothing. Bytecode is
refused, for Lua 5.1 does not verify it.

An empty table says not whether it is a list: it is what the same place of the `likeness` is, else a list, as Karmada has it.
"""

import functools
import math
import threading
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any, Final

STEPS_MAX: Final = 1_000_000
"""Instructions of one call; a script of a published interpreter takes some thousands."""
SECONDS_MAX: Final = 0.25
"""CPU time of one call, for what steps do not measure."""
MEMORY_MAX: Final = 16 * 2**20
"""Bytes that a call may take beside its arguments."""
TEXT_MAX: Final = 2**20
WORK_MAX: Final = 10**7
"""Comparisons that a search in a text may need."""
SCRIPT_MAX: Final = 128 * 1024
"""Characters of a script."""
DEPTH_MAX: Final = 64
VALUES_MAX: Final = 100_000
"""Values in a result."""

Library = Mapping[str, Callable[..., Any]]
"""What `require("kube")` offers: functions of documents."""


class ScriptError(Exception):
    """The script is no Lua, failed, took too long, or gave back what is no document."""


class _Sandbox:
    """One runtime."""

    def __init__(self) -> None:
        from lupa import lua51  # noqa: PLC0415 - only who has scripts needs it

        self._lua51 = lua51
        self._runtime = lua51.LuaRuntime(
            register_eval=False,
            register_builtins=False,
            unpack_returned_tuples=True,
            attribute_filter=_no_attributes,
            max_memory=0,
        )
        prelude = resources.files("machinery.scripts").joinpath("prelude.lua").read_text()
        bounds = (STEPS_MAX, SECONDS_MAX, TEXT_MAX, WORK_MAX)
        self._run, self._load = self._runtime.execute(prelude, *bounds)
        self.compiled = functools.lru_cache(maxsize=256)(self._compiled)

    def _compiled(self, script: str) -> Any:
        """The script as a function. Raises ScriptError."""
        if len(script) > SCRIPT_MAX:
            raise ScriptError(f"it is longer than {SCRIPT_MAX} characters")
        if "\x1b" in script:
            raise ScriptError("bytecode is not accepted")
        chunk, why = self._load(script, "=script")
        if chunk is None:
            raise ScriptError(str(why))
        return chunk

    def call(self, script: str, name: str, args: tuple[Any, ...], library: Library) -> Any:
        """The raw results. Raises ScriptError."""
        chunk, runtime = self.compiled(script), self._runtime
        offered = runtime.table_from({key: self._offered(one) for key, one in library.items()})
        given = [self._into(value) for value in args]
        runtime.set_max_memory(MEMORY_MAX + runtime.get_memory_used(), total=True)
        try:
            found = self._run(chunk, name, offered, *given)
        except UnicodeDecodeError:
            raise ScriptError("it gives back text that is not UTF-8") from None
        except self._lua51.LuaMemoryError:
            raise ScriptError(f"it takes more than {MEMORY_MAX} bytes") from None
        except self._lua51.LuaError as error:
            raise ScriptError(_first_line(error)) from None
        finally:
            runtime.set_max_memory(0)
        ok, *results = found if isinstance(found, tuple) else (found,)
        if not ok:
            why = results[0] if results else None
            raise ScriptError(_first_line(why) if isinstance(why, str) else "it raised no text")
        return results

    def collect(self) -> None:
        """Forget what the last call left."""
        self._runtime.gccollect()

    def _offered(self, function: Callable[..., Any]) -> Callable[..., tuple[bool, Any]]:
        """Its errors go back as text, so that no object of ours is ever in a script's hands."""

        def call(*args: Any) -> tuple[bool, Any]:
            bound = self._runtime.get_max_memory(total=True)
            self._runtime.set_max_memory(0)
            try:
                return True, self._into(function(*(self.out(a, None) for a in args)))
            except (ScriptError, ValueError, TypeError, KeyError, AttributeError) as error:
                return False, str(error) or type(error).__name__
            finally:
                self._runtime.set_max_memory(bound, total=True)

        return call

    def _into(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return self._runtime.table_from({k: self._into(v) for k, v in value.items()})
        if isinstance(value, list | tuple):
            return self._runtime.table_from([self._into(v) for v in value])
        return value

    def out(self, value: Any, likeness: Any) -> Any:
        """What Lua gave, as a document. Raises ScriptError."""
        return self._out(value, likeness, [VALUES_MAX], 0)

    def _out(self, value: Any, likeness: Any, left: list[int], depth: int) -> Any:
        left[0] -= 1
        if left[0] < 0 or depth > DEPTH_MAX:
            raise ScriptError("what it gives back is too large")
        if self._lua51.lua_type(value) == "table":
            return self._table(value, likeness, left, depth + 1)
        if isinstance(value, float) and not math.isfinite(value):
            raise ScriptError("it gives back what is no finite number")
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise ScriptError("it gives back what is no document")

    def _table(self, table: Any, likeness: Any, left: list[int], depth: int) -> Any:
        try:
            items = dict(table.items())
        except UnicodeDecodeError:
            raise ScriptError("it gives back text that is not UTF-8") from None
        if not items:
            return {} if isinstance(likeness, Mapping) else []
        if items.keys() == set(range(1, len(items) + 1)):
            like = likeness if isinstance(likeness, list) else []
            return [
                self._out(items[i + 1], like[i] if i < len(like) else None, left, depth)
                for i in range(len(items))
            ]
        known = likeness if isinstance(likeness, Mapping) else {}
        return {
            str(key): self._out(value, known.get(key), left, depth) for key, value in items.items()
        }


def _no_attributes(_: object, __: object, ___: bool) -> str:
    raise AttributeError("not reached from scripts")


def _first_line(error: object) -> str:
    return str(error).partition("\nstack traceback:")[0].strip()


_own = threading.local()


def _sandbox() -> _Sandbox:
    found: _Sandbox | None = getattr(_own, "sandbox", None)
    if found is None:
        found = _own.sandbox = _Sandbox()
    return found


def why_not(script: str) -> str:
    """Why the text is no script; empty when it is one."""
    try:
        _sandbox().compiled(script)
    except ScriptError as error:
        return str(error)
    return ""


def call(
    script: str,
    name: str,
    *args: Any,
    likeness: Any = None,
    library: Library | None = None,
) -> list[Any]:
    """What the script's function `name` gives back for the arguments: all results, as documents.

    `likeness` settles what an empty table in the first result is. Raises ScriptError; returns within about
    `SECONDS_MAX`, whatever the script is.
    """
    sandbox = _sandbox()
    try:
        found = sandbox.call(script, name, args, library or {})
        return [sandbox.out(one, likeness if i == 0 else None) for i, one in enumerate(found)]
    finally:
        sandbox.collect()
