"""A function in a child process that ends with it: what it left in memory is the system's to take back.

A history leaves a quarter of a million objects that refer to one another in circles. To find and free them costs a tenth
of the history; a process that ends frees nothing.
"""

import gc
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Lost(Exception):
    """The child ended without an answer; what it had to say is on standard error."""


def apart(work: Callable[..., T], *arguments: Any) -> T:
    """What `work` answers, which must be possible to pickle. Raises Lost. The caller has no other threads that hold locks."""
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        os._exit(_answer(writing, work, arguments))
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            answer = pipe.read()
    finally:
        _, status = os.waitpid(child, 0)
    if status:
        raise Lost(f"a child process ended with {os.waitstatus_to_exitcode(status)}")
    found: T = pickle.loads(answer)  # noqa: S301 - this process wrote it, in its child
    return found


def _answer(writing: int, work: Callable[..., T], arguments: tuple[Any, ...]) -> int:
    """In the child: work, and write the answer; the exit code."""
    gc.disable()
    gc.freeze()  # should `work` want collections: what was there before is not looked at
    try:
        answer = pickle.dumps(work(*arguments))
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
    except BaseException:  # noqa: BLE001 - nothing may get out of a child into the parent's code
        traceback.print_exc()
        return 1
    return 0
