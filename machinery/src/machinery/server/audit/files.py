"""Where an audit log's lines are: the file, and those that were put aside, oldest first."""

import os


def audit_file(data_dir: str, path: str = "") -> str:
    """The log of the server whose data is in `data_dir`."""
    return path or os.path.join(data_dir, "audit", "audit.log")


def files(path: str) -> list[str]:
    """Those that exist. Raises OSError when the directory cannot be read."""
    directory, name = os.path.split(os.path.abspath(path))
    numbers = [
        int(suffix)
        for entry in os.listdir(directory)
        if entry.startswith(f"{name}.") and (suffix := entry[len(name) + 1 :]).isdecimal()
    ]
    aside = [f"{path}.{number}" for number in sorted(numbers, reverse=True)]
    return [*aside, path] if os.path.exists(path) else aside
