"""What no tracked file may hold: names of package registries, paths of one machine, unpinned requirements."""

import re

from tests.tidy import tree

# Written in pieces, or this file would be the first to fail.
REGISTRIES = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("proxy", "golang", "org"),
        ("crates", "io"),
        ("deb", "debian", "org"),
        ("registry-1", "docker", "io"),
        ("quay", "io"),
        ("gcr", "io"),
        ("ghcr", "io"),
    )
]
MACHINE_PATH = re.compile("(?:^|[\\s\"'`(=:])/(?:wo" + "rk|ho" + "me|farm)/[A-Za-z0-9.]")
IMAGE = re.compile(r"(?<![\w.-])docker\.io/([a-z0-9-]+)/")


def test_no_file_names_a_package_registry() -> None:
    named = [f"{f}: {host}" for f in tree.files() for host in REGISTRIES if host in tree.text(f)]
    assert named == []


def test_no_file_names_a_path_of_one_machine() -> None:
    named = [
        f"{file}:{number}: {line.strip()[:100]}"
        for file in tree.files()
        if not file.startswith("tests/golden/")
        for number, line in enumerate(tree.text(file).splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert named == []


def test_images_are_those_the_lab_builds() -> None:
    """Nothing is pulled: an image of a registry would make the lab depend on the network."""
    code = [f for f in tree.files() if f.endswith((".py", ".md")) and "golden" not in f]
    owners = {(f, owner) for f in code for owner in IMAGE.findall(tree.text(f))}
    assert {(f, owner) for f, owner in owners if owner != "lab"} == set()


def test_requirements_are_pinned_with_hashes_and_name_no_place() -> None:
    text = tree.text("requirements.txt")
    entries = re.split(r"\n(?=[a-zA-Z0-9])", text.strip())
    assert len(entries) > 30
    loose = [e.splitlines()[0] for e in entries if "==" not in e or "--hash=sha256:" not in e]
    assert loose == []
    assert "://" not in text
    assert "-e " not in text


def test_nothing_generated_is_tracked() -> None:
    endings = (".pyc", ".pem", ".key", ".crt", ".db", ".sqlite", ".log")
    assert [f for f in tree.files() if f.endswith(endings) and "golden" not in f] == []
