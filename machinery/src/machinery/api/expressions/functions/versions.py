"""Semantic versions: `semver`, `isSemver` and their methods. `normalize` takes `v1.02` for `1.2.0`; builds do not count."""

import re
from typing import Final

from machinery.api.expressions.functions.shape import (
    SEMVER,
    Function,
    Value,
    free,
    made,
    text_in,
)

_IDENTIFIER: Final = re.compile(r"[0-9A-Za-z-]+", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]+", re.ASCII)
_TOO_BIG: Final = 1 << 64
Version = tuple[int, int, int, tuple[str, ...]]


def _parsed(text: str) -> Version:  # noqa: PLR0912 - one sentence for each fault
    """Raises ValueError with the sentence of the library that upstream uses."""
    if not text:
        raise ValueError("Version string empty")
    elements = text.split(".", 2)
    if len(elements) != 3:  # noqa: PLR2004 - major, minor, patch
        raise ValueError("No Major.Minor.Patch elements found")
    numbers = []
    last, _, build = elements[2].partition("+")
    if "+" in elements[2] and not all(map(_IDENTIFIER.fullmatch, build.split("."))):
        raise ValueError("Build meta data is empty" if not build else f"Invalid character(s) found in build meta data {build!r}")  # fmt: skip
    last, dash, before = last.partition("-")
    for title, one in zip(("Major", "Minor", "Patch"), (*elements[:2], last), strict=True):
        if not _NUMBER.fullmatch(one):
            raise ValueError(f'Invalid character(s) found in {title.lower()} number "{one}"')
        if len(one) > 1 and one[0] == "0":
            raise ValueError(f'{title} number must not contain leading zeroes "{one}"')
        if int(one) >= _TOO_BIG:
            raise ValueError(f'strconv.ParseUint: parsing "{one}": value out of range')
        numbers.append(int(one))
    releases = tuple(before.split(".")) if dash else ()
    for one in releases:
        if not one:
            raise ValueError("Prerelease is empty")
        if not _IDENTIFIER.fullmatch(one):
            raise ValueError(f'Invalid character(s) found in prerelease "{one}"')
        if _NUMBER.fullmatch(one) and len(one) > 1 and one[0] == "0":
            raise ValueError(
                f'Numeric PreRelease version must not contain leading zeroes "{one}"'
            )  # fmt: skip
    return numbers[0], numbers[1], numbers[2], releases


def _normal(text: str) -> str:
    """With three numbers, without `v` and leading zeros."""
    text = text.removeprefix("v")
    numbers = text.split(".", 2)
    if len(numbers) < 3 and any(letter in numbers[-1] for letter in "+-"):  # noqa: PLR2004
        raise ValueError("short version cannot contain PreRelease/Build meta data")
    numbers = [one.lstrip("0") if not one[1:2].isalpha() else one for one in numbers]
    numbers = [one if one[:1].isdigit() else f"0{one}" for one in numbers]
    return ".".join([*numbers, *["0"] * (3 - len(numbers))])


def _semver(text: str, normalize: bool = False) -> Value:  # noqa: FBT001, FBT002 - as expressions call it
    if normalize and text:
        text = _normal(text)
    major, minor, patch, before = _parsed(text)
    tail = "-" + ".".join(before) if before else ""
    return made(SEMVER, f"{major}.{minor}.{patch}{tail}")


def _is_semver(text: str, normalize: bool = False) -> bool:  # noqa: FBT001, FBT002
    try:
        _semver(text, normalize)
    except ValueError:
        return False
    return True


def _key(value: Value) -> tuple[object, ...]:
    major, minor, patch, before = _parsed(text_in(value))
    marks = tuple((0, int(one), "") if one.isdigit() else (1, 0, one) for one in before)
    return (major, minor, patch, not before, marks)


def _compare(left: Value, right: Value) -> int:
    one, other = _key(left), _key(right)
    return (one > other) - (one < other)


FUNCTIONS: Final = (
    free("semver", "string_to_semver", ("string",), SEMVER, _semver),
    free("semver", "string_bool_to_semver", ("string", "bool"), SEMVER, _semver),
    free("isSemver", "is_semver_string", ("string",), "bool", _is_semver),
    free("isSemver", "is_semver_string_bool", ("string", "bool"), "bool", _is_semver),
    Function("isGreaterThan", "semver_is_greater_than", (SEMVER, SEMVER), "bool", lambda a, b: _compare(a, b) > 0),
    Function("isLessThan", "semver_is_less_than", (SEMVER, SEMVER), "bool", lambda a, b: _compare(a, b) < 0),
    Function("compareTo", "semver_compare_to", (SEMVER, SEMVER), "int", _compare),
    Function("major", "semver_major", (SEMVER,), "int", lambda one: _parsed(text_in(one))[0]),
    Function("minor", "semver_minor", (SEMVER,), "int", lambda one: _parsed(text_in(one))[1]),
    Function("patch", "semver_patch", (SEMVER,), "int", lambda one: _parsed(text_in(one))[2]),
)  # fmt: skip
