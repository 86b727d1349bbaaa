"""Shared fixtures, and an environment in which tests neither open windows nor fight for cores."""

import gc
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Protocol, TypeVar

# Before torch, OpenMP, SDL and MuJoCo read them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("MUJOCO_GL", "egl")

import hypothesis
import pytest
from machine import turn

# A shell that runs the tests in the background has them, and what they start, ignore Ctrl-C, and
# nohup the end of the terminal.
for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

# Descriptors that the tests of one file may leave open: engines, codecs and fonts keep some for
# good.
MOST_LEFT_OPEN = 20

pytest.register_assert_rewrite("hotloop.decoding.conformance")

# How long an example takes says more about the machine's load than about the code.
hypothesis.settings.register_profile("hotloop", deadline=None, max_examples=50)
hypothesis.settings.load_profile("hotloop")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real data sets: HOTLOOP_DATA, or ../shared/data beside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("HOTLOOP_DATA", default))
    if not path.is_dir():
        pytest.skip(f"the data folder {path} does not exist; set HOTLOOP_DATA")
    return path


Closable = TypeVar("Closable", bound="SupportsClose")


class SupportsClose(Protocol):
    def close(self) -> None: ...


@pytest.fixture
def close_later() -> Generator[Callable[[Closable], Closable], None, None]:
    """Takes what is to be closed at the end of the test, and returns it."""
    with ExitStack() as stack:

        def later(thing: Closable) -> Closable:
            stack.callback(thing.close)
            return thing

        yield later


@pytest.fixture(scope="session", autouse=True)
def _operators_read_once() -> Generator[None, None, None]:
    """torch goes through all its operators several times per export, a third of its time."""
    if "torch" not in sys.modules:
        yield  # nothing of what was collected exports in this process
        return
    from torch.export import decomp_utils, exported_program
    from torch.onnx._internal._lazy_import import onnxscript_apis

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxscript_apis, "get_torchlib_ops", cache(onnxscript_apis.get_torchlib_ops))
        for module in (decomp_utils, exported_program):
            listed = cache(module._collect_all_valid_cia_ops)
            patch.setattr(module, "_collect_all_valid_cia_ops", listed)
        yield


@pytest.fixture(autouse=True)
def _machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[None, None, None]:
    """A test in real time has the machine for itself, also beside other test processes."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    alone = request.node.get_closest_marker("realtime") is not None
    with turn(tmp_path_factory.getbasetemp().parent, alone=alone):
        yield


def _open_descriptors() -> Counter[str]:
    """What is open, and how often."""
    folder = Path("/proc/self/fd")
    links = folder.iterdir() if folder.is_dir() else ()
    return Counter(re.sub(r"\d+", "N", str(one.readlink())) for one in links if one.is_symlink())


@pytest.fixture(scope="module", autouse=True)
def _nothing_stays_open(request: pytest.FixtureRequest) -> Generator[None, None, None]:
    """A file of tests that leaves many descriptors open fails: they add up over the suite.

    C libraries that call select() write beyond their set with a descriptor above 1023.
    """
    before = _open_descriptors()
    yield
    left = _open_descriptors() - before
    if left.total() > MOST_LEFT_OPEN:
        gc.collect()  # what merely waits for the collector is not left open
        left = _open_descriptors() - before
    if left.total() > MOST_LEFT_OPEN:
        pytest.fail(f"{request.path.name} leaves descriptors open: {left.most_common(5)}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever has to be alone on the machine comes last: other processes would wait for it."""
    items.sort(key=lambda item: item.get_closest_marker("realtime") is not None)


def pytest_collection_finish() -> None:
    """Let the collector pass over what was imported: it took a sixth of the time of some files.

    torch.export leaves much to collect, and robosuite collects whenever a simulator closes.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 10, 10)


def _skip_what_this_python_cannot_have() -> Generator[None, object, object]:
    """Turn hotloop's own word that a package needs a newer Python into the reason of a skip."""
    try:
        return (yield)
    except ImportError as error:
        if re.search(r" on Python [\d.]+ or later$", str(error)):
            pytest.skip(str(error))
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    if item.get_closest_marker("compat") and not os.environ.get("HOTLOOP_COMPAT"):
        pytest.skip("builds environments with other projects' packages; set HOTLOOP_COMPAT=1")
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)  # a test that fails for one draw of weights fails whenever it is run
    return (yield from _skip_what_this_python_cannot_have())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    return (yield from _skip_what_this_python_cannot_have())
