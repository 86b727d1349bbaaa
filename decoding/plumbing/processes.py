"""Python processes that import nothing from the current folder."""

from __future__ import annotations

import sys

# `python -m` and `python -c` put the current folder first on the import path, where a user's own
# select.py or numpy.py would run in place of the library that is meant. Python 3.11 has -P against
# it, 3.10 has nothing; here the entry is gone before anything but the built-in sys is imported.
# Folders of PYTHONPATH stay: they were named on purpose.
_RUN = (
    "import sys\n"
    "if sys.path[:1] == ['']: del sys.path[0]\n"
    "from runpy import run_module\n"
    "run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def module_command(module: str, *arguments: str) -> list[str]:
    """Command that runs a module as ``python -m`` does, with this interpreter.

    Args:
        module: Its full name; it has to be installed, or its folder named in PYTHONPATH.
        arguments: What it finds in ``sys.argv[1:]``.
    """
    return [sys.executable, "-c", _RUN, module, *arguments]
