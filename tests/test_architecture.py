"""The shape of the code: who imports whom, how large files are, what the repository holds."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "decoding": set(),
    "policies": {"decoding"},
    "envs": {"decoding"},
    "real_robot": {"decoding"},
    "train": {"decoding", "policies", "envs"},
}
# Commands put the parts together: a policy onto a robot. Nothing else may know both.
COMPOSITION_ROOT = ("train", "commands")
TOP_LEVEL = {*MAY_IMPORT, "tests", "pyproject.toml", "README.md", "LICENSE"}
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
MAX_LINES = 300
MAX_BODY_LINES = 40

# Programs for other people's environments (LeRobot, ROS 2). They import hotloop as a user does, and
# are no part of the wheel.
INTEGRATIONS = ROOT / "real_robot" / "integrations"

OUTSIDE = sorted(INTEGRATIONS.rglob("*.py"))
LIBRARY = sorted(
    path
    for folder in MAY_IMPORT
    for path in (ROOT / folder).rglob("*.py")
    if not path.is_relative_to(INTEGRATIONS)
)
SOURCES = sorted([*LIBRARY, *OUTSIDE, *(ROOT / "tests").rglob("*.py")])


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


def breaches(paths: list[Path], rule: Callable[[str, str], Iterator[str]]) -> list[str]:
    """What breaks a rule in any of these files."""
    return [
        found
        for path, module in zip(paths, names(paths), strict=True)
        for found in rule(module, path.read_text())
    ]


def import_violations(module: str, source: str) -> Iterator[str]:
    """Yield what breaks the import rules in the library file at `module`, e.g. ``envs/a.py``.

    Imports inside functions and under TYPE_CHECKING count: they are dependencies all the same.
    """
    package = PurePosixPath(module).parent.parts
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            targets = [(node.module or "").split(".")]
        elif isinstance(node, ast.ImportFrom):
            yield from relative_violations(package, node)
            continue
        else:
            continue
        for target in targets:
            if target[0] in {*MAY_IMPORT, "hotloop", "tests"}:
                yield f"{module}:{node.lineno} imports {'.'.join(target)} absolutely"


def relative_violations(package: tuple[str, ...], node: ast.ImportFrom) -> Iterator[str]:
    """Yield what is wrong with a relative import in a module of `package`."""
    where = f"{'/'.join(package)}:{node.lineno}"
    if node.level > len(package) + 1:
        yield f"{where} imports from above hotloop"
        return
    base = package[: len(package) + 1 - node.level] + tuple((node.module or "").split("."))
    path = [part for part in base if part]
    if INTEGRATIONS.name in {*path, *(alias.name for alias in node.names)}:
        yield f"{where} imports {INTEGRATIONS.name}, which the wheel lacks"
    siblings = [path[0]] if path else [alias.name for alias in node.names]
    allowed = set(MAY_IMPORT) if package == COMPOSITION_ROOT else MAY_IMPORT[package[0]]
    for sibling in siblings:
        if sibling != package[0] and sibling not in allowed:
            yield f"{where} imports {sibling}; {package[0]} may not"


def pickle_violations(module: str, source: str) -> Iterator[str]:
    """Yield uses of formats that run code when a file is opened."""
    for node in ast.walk(ast.parse(source)):
        found: set[str] = set()
        if isinstance(node, ast.Import):
            found = {alias.name.split(".")[0] for alias in node.names} & UNPICKLERS
        elif isinstance(node, ast.ImportFrom):
            found = {(node.module or "").split(".")[0]} & UNPICKLERS
            if node.module == "torch":
                found |= {f"torch.{alias.name}" for alias in node.names if alias.name == "load"}
        elif isinstance(node, ast.Attribute):
            found = {ast.unparse(node)} & {"torch.load", "torch.serialization.load"}
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found = {"allow_pickle"} if ast.unparse(node.value) != "False" else set()
        for name in found:
            yield f"{module}:{getattr(node, 'lineno', 0)} uses {name}"


def test_a_module_imports_only_what_its_folder_may() -> None:
    assert breaches(LIBRARY, import_violations) == []


def leaving_imports(module: str, source: str) -> Iterator[str]:
    """Yield imports of an integration that reach out of its folder other than as a user's do."""
    depth = len((ROOT / module).relative_to(INTEGRATIONS).parts) - 1
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            first = (node.module or "").split(".")[0]
            if node.level >= depth if node.level else first in MAY_IMPORT:
                yield f"{module}:{node.lineno} imports from {'.' * node.level}{node.module or ''}"


def test_an_integration_imports_hotloop_as_a_user_does() -> None:
    """It is copied or installed by itself, so a relative import must not leave its folder."""
    assert breaches(OUTSIDE, leaving_imports) == []


def test_the_rule_of_integrations_catches() -> None:
    module = (INTEGRATIONS / "some" / "package" / "run.py").relative_to(ROOT).as_posix()
    sources = "from .near import x", "from ..other import x", "from train import x"
    found = [list(leaving_imports(module, source)) for source in sources]
    assert found == [
        [],
        [f"{module}:1 imports from ..other"],
        [f"{module}:1 imports from train"],
    ]


# What another project stored as a pickle is opened in that project's own environment.
MAY_UNPICKLE = INTEGRATIONS / "diffusion_policy"


def test_a_module_opens_no_pickle() -> None:
    paths = [path for path in (*LIBRARY, *OUTSIDE) if not path.is_relative_to(MAY_UNPICKLE)]
    assert breaches(paths, pickle_violations) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("decoding/bad.py", "from ..policies import model"),
        ("decoding/bad.py", "from .. import envs"),
        ("policies/bad.py", "from ..train.config import TrainConfig"),
        ("policies/networks/bad.py", "from ...envs import registry"),
        ("envs/bad.py", "def f():\n    from ..policies import model"),
        ("envs/bad.py", "if TYPE_CHECKING:\n    from ..real_robot import loop"),
        ("real_robot/bad.py", "from ..envs.task import Task"),
        ("real_robot/bad.py", "from .integrations.lerobot import policy"),
        ("real_robot/core/bad.py", "from .. import integrations"),
        ("train/commands/bad.py", "from ...real_robot.integrations import lerobot"),
        ("train/bad.py", "from ..real_robot import driver"),
        ("train/data/bad.py", "from ...real_robot import driver"),
        ("train/bad.py", "from ...decoding import Executor"),
        ("train/bad.py", "from ..tests import tiny"),
        ("envs/bad.py", "import hotloop.decoding"),
        ("envs/bad.py", "from hotloop.decoding import Executor"),
        ("envs/bad.py", "import decoding.executor"),
        ("envs/bad.py", "from envs.task import Task"),
    ],
)
def test_the_import_rule_catches(module: str, source: str) -> None:
    assert len(list(import_violations(module, source))) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("decoding/good.py", "import numpy as np\nfrom .trajectory import ActionTrajectory"),
        ("policies/networks/good.py", "from ...decoding import schedules\nfrom ..model import M"),
        (
            "train/commands/good.py",
            "from ...envs import a\nfrom ..config import b\nfrom . import c",
        ),
        ("train/commands/good.py", "def run():\n    from ...real_robot.config import RobotConfig"),
        ("train/good.py", "from .. import decoding, policies\nimport envs_of_others"),
    ],
)
def test_the_import_rule_lets_pass(module: str, source: str) -> None:
    assert list(import_violations(module, source)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import numpy, dill",
        "from pickle import loads",
        "from torch import load",
        "import torch\nmodel = torch.load(path, weights_only=True)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=trusted)",
    ],
)
def test_the_pickle_rule_catches(source: str) -> None:
    assert len(list(pickle_violations("envs/bad.py", source))) == 1


def test_the_pickle_rule_lets_data_formats_pass() -> None:
    source = "import json\nnp.load(path, allow_pickle=False)\nsafetensors.torch.load_file(path)"
    assert list(pickle_violations("envs/good.py", source)) == []


def test_the_robot_process_needs_no_torch() -> None:
    """Importing the contract and the robot's packages stays light on a machine without torch."""
    code = (
        "import sys, hotloop.decoding, hotloop.envs, hotloop.real_robot; "
        "print(sorted({'torch', 'gymnasium', 'mujoco', 'hydra', 'scipy'} & set(sys.modules)))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (process.stdout, process.returncode) == ("[]\n", 0), process.stderr


def declared(path: Path) -> list[str]:
    """Return the names in a module's ``__all__``, without importing it."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def documented(value: object) -> bool:
    """Whether a class or function has a docstring of its own; a constant needs none."""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return True
    text = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    # Without a docstring a dataclass gets its signature as one.
    return bool(text) and not text.startswith(f"{value.__name__}(")


@pytest.mark.parametrize("module", [name for name in names(LIBRARY) if declared(ROOT / name)])
def test_every_public_name_exists_and_is_documented(module: str) -> None:
    dotted = ".".join(("hotloop", *PurePosixPath(module).with_suffix("").parts))
    imported = importlib.import_module(dotted.removesuffix(".__init__"))
    public = declared(ROOT / module)
    assert sorted(set(public)) == sorted(public)
    assert [name for name in public if not hasattr(imported, name)] == []
    assert [name for name in public if not documented(getattr(imported, name))] == []


def test_a_file_can_be_read_at_one_sitting() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in SOURCES}
    assert names([path for path in SOURCES if lengths[path] > MAX_LINES]) == []


def long_functions(module: str, source: str) -> Iterator[str]:
    """Yield functions whose body, without docstring, takes too many lines."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
        num_lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
        if num_lines > MAX_BODY_LINES:
            yield f"{module}:{node.lineno} {node.name} has {num_lines} lines"


def test_a_function_can_be_seen_at_once() -> None:
    assert breaches(SOURCES, long_functions) == []


def test_the_rule_of_function_length_counts_the_body_alone() -> None:
    lines = ["def f():", '    """', *["    text"] * 50, '    """', *["    x = 1"] * MAX_BODY_LINES]
    assert list(long_functions("a.py", "\n".join(lines))) == []
    (found,) = long_functions("a.py", "\n".join([*lines, "    x = 1"]))
    assert found == "a.py:1 f has 41 lines"


def test_the_top_level_holds_only_the_fixed_entries() -> None:
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split()]
    entries = {entry.name for entry in ROOT.iterdir() if not entry.name.startswith(".")}
    kept = {name for name in entries if not any(fnmatch(name, pattern) for pattern in ignored)}
    assert kept == TOP_LEVEL
