"""Log lines, and the bound on their files."""

import json
import logging
import logging.handlers
from collections.abc import Iterator
from pathlib import Path

import pytest

from machinery.kit import log as kit_log
from machinery.kit.logcontext import bind


@pytest.fixture(autouse=True)
def restored_root() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
            handler.close()
    root.setLevel(level)


def test_line(tmp_path: Path) -> None:
    path = tmp_path / "log" / "control.log"
    kit_log.setup("control", "info", str(path))
    logger = logging.getLogger("machinery.x")
    with bind(controller="eviction"):
        logger.info("pod evicted", extra={"pod": "demo/web", "level": 3, "odd": {1, 2}})
    logger.debug("not seen")
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        logger.exception("task died")
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "info",
        "component": "control",
        "logger": "machinery.x",
        "message": "pod evicted",
        "controller": "eviction",
        "pod": "demo/web",
        "level_": 3,
        "odd": "{1, 2}",
    }
    assert "RuntimeError: boom" in second["error"]


def test_set_up_twice_writes_once(tmp_path: Path) -> None:
    kit_log.setup("a", "info", str(tmp_path / "a.log"))
    kit_log.setup("b", "info", str(tmp_path / "b.log"))
    logging.getLogger("x").info("once")
    assert not (tmp_path / "a.log").read_text()
    assert json.loads((tmp_path / "b.log").read_text())["component"] == "b"


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit_log, "FILE_BYTES_MAX", 1000)
    kit_log.setup("a", "info", str(tmp_path / "a.log"))
    for _ in range(200):
        logging.getLogger("x").info("a sentence")
    files = list(tmp_path.iterdir())
    assert len(files) == 5
    assert all(file.stat().st_size <= 1000 for file in files)


def test_unknown_level() -> None:
    with pytest.raises(ValueError, match="use debug, info"):
        kit_log.setup("a", "loud")
