"""What gets installed: every file of the library, its data, the command, and nothing else."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("decoding", "policies", "envs", "train", "real_robot")


def shipped_files(folder: Path) -> set[str]:
    """Return the files below a package folder that belong to it; its page is the repository's.

    So are integrations, which are programs and distributions of their own.
    """
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {
        path.as_posix()
        for path in files
        if not {"__pycache__", "integrations"} & set(path.parts) and path.name != "README.md"
    }


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_installed_package_is_the_source_folder(folder: str) -> None:
    """A sub-package or data file that pyproject.toml forgets exists here but not in the wheel."""
    package = importlib.import_module(f"hotloop.{folder}")
    assert package.__file__ is not None
    installed = Path(package.__file__).parent
    assert shipped_files(installed) == shipped_files(ROOT / folder)
    for name in shipped_files(ROOT / folder):
        assert (installed / name).read_bytes() == (ROOT / folder / name).read_bytes(), name


@pytest.mark.parametrize("folder", FOLDERS)
def test_type_information_is_installed(folder: str) -> None:
    assert resources.files(f"hotloop.{folder}").joinpath("py.typed").is_file()


def test_every_package_folder_is_listed_for_the_build() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    listed = set(re.findall(r'^    "(hotloop\.[\w.]+)",$', text, flags=re.MULTILINE))
    inits = [
        init
        for folder in FOLDERS
        for init in (ROOT / folder).rglob("__init__.py")
        if "integrations" not in init.parts
    ]
    assert listed == {".".join(("hotloop", *init.parent.relative_to(ROOT).parts)) for init in inits}


def test_the_folders_do_not_become_top_level_modules() -> None:
    """`import envs` belongs to another project on PyPI."""
    code = (
        "from importlib.util import find_spec; "
        f"print([name for name in {(*FOLDERS, 'tests')} if find_spec(name)])"
    )
    # -I keeps the working directory, which may hold the folders, off the search path.
    process = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert (process.stdout, process.returncode) == ("[]\n", 0), process.stderr


def test_the_console_command_runs_main() -> None:
    (entry,) = metadata.entry_points(group="console_scripts", name="hotloop")
    assert entry.load() is importlib.import_module("hotloop.train.cli").main


def test_the_license_is_in_the_distribution() -> None:
    distribution = metadata.distribution("hotloop")
    assert distribution.metadata["License-Expression"] == "Apache-2.0"
    texts = [file.read_text() for file in distribution.files or [] if file.name == "LICENSE"]
    assert texts == [(ROOT / "LICENSE").read_text()]


def test_ci_runs_every_python_that_the_package_admits() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    tested = re.search(r"python: \[(.*)\]", workflow)
    assert tested is not None
    minors = [int(minor) for minor in re.findall(r'"3\.(\d+)"', tested[1])]
    assert metadata.metadata("hotloop")["Requires-Python"] == f"<3.{minors[-1] + 1},>=3.{minors[0]}"
    assert minors == list(range(minors[0], minors[-1] + 1))


def test_each_constraint_lies_within_the_declared_range() -> None:
    """A pin outside the range would make the install command of the README fail."""
    from packaging.requirements import Requirement

    extras = metadata.metadata("hotloop").get_all("Provides-Extra") or []

    def applies(requirement: Requirement) -> bool:
        marker = requirement.marker
        return marker is None or any(marker.evaluate({"extra": extra}) for extra in ["", *extras])

    lines = (ROOT / ".ci" / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    requirements = [Requirement(text) for text in metadata.requires("hotloop") or []]
    pairs = [(pin, r) for pin in pins for r in requirements if pin.name == r.name]
    assert "torch" in {pin.name for pin, _ in pairs}
    for pin, requirement in pairs:
        (version,) = (clause.version for clause in pin.specifier)
        if applies(pin) and applies(requirement):
            assert requirement.specifier.contains(version), f"{pin} against {requirement}"
