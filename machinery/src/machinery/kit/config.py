"""Settings: a frozen dataclass from a YAML file, the environment and flags, in rising order of precedence.

A room describes its settings as a frozen dataclass with a default and a docstring under each field; this module reads
them once at start. Every mistake is one ConfigError that names the place, the key and what would be right. Fields may
be str, int, float, bool, tuple[str, ...], any of these or None, or (in the file only) another such dataclass.
"""

import argparse
import ast
import dataclasses
import difflib
import inspect
import textwrap
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")


class ConfigError(Exception):
    """A setting that cannot be used; the text says which, where, and what to write instead."""


def load(
    cls: type[T],
    *,
    file: str | None = None,
    environ: Mapping[str, str] | None = None,
    env_prefix: str = "",
    flags: Mapping[str, object] | None = None,
) -> T:
    """Read `cls`. Flags that are None were not given; variables are `<env_prefix><FIELD>` in capitals."""
    values: dict[str, object] = {}
    kinds = _kinds(cls)
    if file is not None:
        values.update(_from_mapping(cls, _read_yaml(file), file))
    for name, kind in kinds.items():
        variable = f"{env_prefix}{name}".upper()
        if env_prefix and environ and variable in environ and not dataclasses.is_dataclass(kind):
            values[name] = _from_text(kind, environ[variable], f"environment variable {variable}")
    for name, value in (flags or {}).items():
        if name in kinds and value is not None:
            place = f"flag --{name.replace('_', '-')}"
            values[name] = (
                _from_text(kinds[name], value, place)
                if isinstance(value, str)
                else _from_yaml(kinds[name], value, place)
            )
    return _build(cls, values, file or "settings")


def add_flags(parser: argparse.ArgumentParser, cls: type[Any]) -> None:
    """One flag for each plain field of `cls`, with the field's docstring as its help."""
    docs = field_docs(cls)
    for name, kind in _kinds(cls).items():
        if dataclasses.is_dataclass(kind):
            continue
        flag = f"--{name.replace('_', '-')}"
        text = docs.get(name, "").replace("%", "%%")
        if bool in _options(kind):
            parser.add_argument(
                flag, dest=name, action=argparse.BooleanOptionalAction, default=None, help=text
            )
        else:
            parser.add_argument(flag, dest=name, default=None, help=text)


def field_docs(cls: type[Any]) -> dict[str, str]:
    """The docstring under each field of a dataclass."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    body = typing.cast("ast.ClassDef", tree.body[0]).body
    docs = {}
    for field, text in zip(body, body[1:], strict=False):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(doc))),
            ):
                docs[name] = " ".join(doc.split())
            case _:
                pass
    return docs


def _read_yaml(file: str) -> Mapping[str, object]:
    try:
        document = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: is not YAML: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{file}: expected `key: value` lines, got a {type(document).__name__}")
    return document


def _from_mapping(cls: type[Any], document: Mapping[str, object], place: str) -> dict[str, object]:
    kinds = _kinds(cls)
    values = {}
    for key, value in document.items():
        name = str(key).replace("-", "_")
        if name not in kinds:
            near = difflib.get_close_matches(name, kinds, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(kinds)}"
            raise ConfigError(f"{place}: unknown key {key}; {hint}")
        values[name] = _from_yaml(kinds[name], value, f"{place}: {key}")
    return values


def _from_yaml(kind: Any, value: object, place: str) -> object:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise ConfigError(f"{place}: expected `key: value` lines, got {value!r}")
        return _build(kind, _from_mapping(kind, value, place), place)
    options = _options(kind)
    if value is None and type(None) in options:
        return None
    if tuple in options and isinstance(value, (list, tuple)):
        if all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ConfigError(f"{place}: expected a list of texts, got {value!r}")
    for option in options:
        if type(value) is option:
            return value
    if float in options and type(value) is int:
        return float(value)
    raise ConfigError(f"{place}: expected {_wanted(options)}, got {value!r}")


def _from_text(kind: Any, text: object, place: str) -> object:
    assert isinstance(text, str)
    options = _options(kind)
    if bool in options:
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if text.lower() in words:
            return words[text.lower()]
    elif tuple in options:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    elif str in options:
        return text
    else:
        for number in (int, float):
            if number in options:
                try:
                    return number(text)
                except ValueError:
                    continue
    raise ConfigError(f"{place}: expected {_wanted(options)}, got {text!r}")


def _build(cls: type[T], values: dict[str, object], place: str) -> T:
    assert dataclasses.is_dataclass(cls)
    missing = [
        field.name
        for field in dataclasses.fields(cls)
        if field.name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{place}: {', '.join(missing)} must be given")
    try:
        return cls(**values)
    except ValueError as error:  # a __post_init__ that checks its ranges
        raise ConfigError(f"{place}: {error}") from error


def _kinds(cls: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _options(kind: Any) -> tuple[type[Any], ...]:
    """`int | None` as (int, NoneType), `tuple[str, ...]` as (tuple,)."""
    parts = (
        typing.get_args(kind)
        if typing.get_origin(kind) in (typing.Union, types.UnionType)
        else (kind,)
    )
    return tuple(typing.get_origin(part) or part for part in parts)


def _wanted(options: tuple[type[Any], ...]) -> str:
    words = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "a text",
        tuple: "a list of texts",
        type(None): "nothing",
    }
    return " or ".join(words.get(option, option.__name__) for option in options)
