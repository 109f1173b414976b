"""Settings: precedence, and one clear error for each mistake."""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from machinery.kit.config import ConfigError, add_flags, field_docs, load


@dataclass(frozen=True)
class Failure:
    suspect_s: float = 6.0


@dataclass(frozen=True)
class Settings:
    name: str
    """What it is called."""
    port: int = 6443
    """Where it listens,
    100% surely."""
    debug: bool = False
    zones: tuple[str, ...] = ()
    database: str | None = None
    failure: Failure = field(default_factory=Failure)

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ValueError(f"port {self.port} is not between 0 and 65535")


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return str(path)


def test_flags_win_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = write(tmp_path, "name: a\nport: 1\nzones: [x, y]\nfailure: {suspect-s: 3}\n")
    environ = {"U_PORT": "2", "U_DEBUG": "yes", "U_DATABASE": "sqlite://"}
    got = load(
        Settings, file=file, environ=environ, env_prefix="U_", flags={"port": "3", "debug": None}
    )
    assert got == Settings("a", 3, True, ("x", "y"), "sqlite://", Failure(3.0))


def test_flags_from_fields() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, Settings)
    flags = vars(parser.parse_args(["--name=n", "--no-debug", "--zones=a, b"]))
    assert load(Settings, flags=flags) == Settings("n", zones=("a", "b"))
    assert field_docs(Settings) == {
        "name": "What it is called.",
        "port": "Where it listens, 100% surely.",
    }
    assert "100% surely" in parser.format_help()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nprot: 1", "unknown key prot; did you mean port?"),
        ("name: a\nxyzzy: 1", "unknown key xyzzy; known are name, port"),
        ("name: a\nport: many", "port: expected a whole number, got 'many'"),
        ("name: a\nport: true", "port: expected a whole number, got True"),
        ("name: a\nport: 99999", "port 99999 is not between 0 and 65535"),
        ("name: a\nzones: [1]", "zones: expected a list of texts"),
        ("name: a\nfailure: 3", "failure: expected `key: value` lines"),
        ("name: a\nfailure: {suspect_s: soon}", "failure: suspect_s: expected a number"),
        ("port: 1", "name must be given"),
        ("- a", "expected `key: value` lines, got a list"),
        ("a: [", "is not YAML"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as mistake:
        load(Settings, file=write(tmp_path, text))
    assert message in str(mistake.value)
    assert "settings.yaml" in str(mistake.value)


def test_mistakes_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(Settings, file=str(tmp_path / "none.yaml"))
    with pytest.raises(
        ConfigError, match="environment variable U_PORT: expected a whole number, got 'x'"
    ):
        load(Settings, environ={"U_NAME": "a", "U_PORT": "x"}, env_prefix="U_")
    with pytest.raises(ConfigError, match="flag --debug: expected true or false, got 'maybe'"):
        load(Settings, flags={"name": "a", "debug": "maybe"})
