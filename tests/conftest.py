"""Shared fixtures, and an environment in which tests neither open windows nor fight for cores."""

import os
import re
import signal
from collections.abc import Generator
from pathlib import Path

# Before torch, OpenMP, SDL and MuJoCo read them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("MUJOCO_GL", "egl")

import hypothesis
import pytest

# A shell that runs the tests in the background has them, and what they start, ignore Ctrl-C, and
# nohup the end of the terminal.
for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

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


def _skip_what_this_python_cannot_have() -> Generator[None, object, object]:
    """Turn hotloop's own word that a package needs a newer Python into the reason of a skip."""
    try:
        return (yield)
    except ImportError as error:
        if re.search(r" on Python [\d.]+ or later$", str(error)):
            pytest.skip(str(error))
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    return (yield from _skip_what_this_python_cannot_have())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    return (yield from _skip_what_this_python_cannot_have())
