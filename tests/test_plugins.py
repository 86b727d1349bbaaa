"""Members found by name, by entry point of an installed package, and by ``module:Name``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotloop.decoding.plumbing.plugins import Registry

PACKAGE = "hotloop.decoding"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the import path that holds an installed package with one whole and one broken
    plugin."""
    metadata = tmp_path / "thirdparty-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text(
        "[hotloop.things]\nwhole = thirdparty_whole:Thing\nbroken = thirdparty_broken:Thing\n"
        "executor = thirdparty_whole:Thing\n"
    )
    (tmp_path / "thirdparty_whole.py").write_text("class Thing: pass\n")
    (tmp_path / "thirdparty_broken.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield tmp_path
    sys.modules.pop("thirdparty_whole", None)


def things() -> Registry[type]:
    included = {"executor": "executor:Executor", "trajectory": "trajectory:ActionTrajectory"}
    return Registry("hotloop.things", "thing", included, PACKAGE)


def test_names_are_those_of_hotloop_and_of_plugins(site: Path) -> None:
    assert things().names == ["broken", "executor", "trajectory", "whole"]


def test_a_plugin_is_imported_when_it_is_asked_for(site: Path) -> None:
    found = things()
    assert "whole" in found and "thirdparty_whole" not in sys.modules
    assert found.get("whole").__module__ == "thirdparty_whole"


def test_a_plugin_does_not_replace_what_hotloop_has(site: Path) -> None:
    assert things().get("executor").__module__ == "hotloop.decoding.executor"


def test_a_broken_plugin_is_named_and_the_others_work(site: Path) -> None:
    found = things()
    with pytest.raises(ImportError, match=r"'broken'.*thirdparty 1\.2.*RuntimeError: no licence"):
        found.get("broken")
    assert found.get("whole") is not None


def test_a_member_is_named_by_module_and_name(site: Path) -> None:
    assert things().get("thirdparty_whole:Thing").__name__ == "Thing"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:Thing", "module 'nowhere' cannot be imported.*PYTHONPATH"),
        ("thirdparty_whole:Other", "module 'thirdparty_whole' has no 'Other'"),
    ],
)
def test_a_path_that_leads_nowhere_says_which_half(site: Path, name: str, message: str) -> None:
    with pytest.raises(ImportError, match=message):
        things().get(name)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no thing 'exekutor' \(did you mean executor\?\)"):
        things().get("exekutor")
