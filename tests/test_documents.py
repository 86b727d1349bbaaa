"""What the documents say: their examples run, their links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    *sorted(ROOT.glob("*/README.md")),
    *sorted(ROOT.glob("real_robot/integrations/**/README.md")),
    ROOT / "tests" / "benchmarks" / "README.md",
    *sorted((ROOT / ".github").glob("*.md")),
]
EXAMPLES = sorted((ROOT / "tests" / "examples").glob("*.py"))


def blocks(document: Path, language: str) -> list[str]:
    """The fenced code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


PYTHON = [
    pytest.param(block, id=f"{named(document)}-{index}")
    for document in DOCUMENTS[1:]
    for index, block in enumerate(blocks(document, "python"))
]


def run(code: list[str], folder: Path) -> None:
    # A command that ran in this process before may have set it; readers type in a fresh shell.
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONSAFEPATH"}
    process = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", *code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("block", PYTHON)
def test_an_example_in_a_document_runs(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With names of its own alone, in a process that has imported what it needs already."""
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=DeprecationWarning, module="__main__")
        exec(compile(block, "<example>", "exec"), {"__name__": "__main__"})


def test_the_first_example_that_a_reader_meets_runs_in_a_fresh_process(tmp_path: Path) -> None:
    run(["-c", blocks(ROOT / "README.md", "python")[0]], tmp_path)


# One of them asks whether this machine can keep a robot's time.
SCRIPTS = [
    pytest.param(
        script,
        id=named(script),
        marks=[pytest.mark.realtime] if script.stem == "own_robot" else [],
    )
    for script in EXAMPLES
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_script_runs_in_an_empty_folder(script: Path, tmp_path: Path) -> None:
    run([str(script)], tmp_path)


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_a_link_within_the_repository_leads_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("folder", ["decoding", "envs", "policies", "real_robot", "train"])
def test_a_folder_page_has_contract_example_and_what_to_touch(folder: str) -> None:
    page = ROOT / folder / "README.md"
    assert "## To add one, touch these" in page.read_text()
    assert blocks(page, "python")
