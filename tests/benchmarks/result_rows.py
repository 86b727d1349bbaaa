"""Result files of benchmarks that take long: written row by row, continued where they stopped."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from hotloop.decoding.plumbing.files import write_text
from hotloop.train.measure.provenance import measurement_header


class Results:
    """Rows of a result file, by what they measure.

    Args:
        path: The file; rows that it has already are kept.
        silent: Columns that are written but not printed.
        facts: What the header tells beyond the machine and the versions.
    """

    def __init__(
        self, path: Path, silent: Collection[str] = (), facts: Mapping[str, Any] | None = None
    ) -> None:
        self.path, self._silent = path, silent
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            self.rows = json.loads(path.read_text())["rows"]
        self._header = {**measurement_header(shlex.join(["python", *sys.argv])), **(facts or {})}

    def find(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """The first row with these facts."""
        plain = json.loads(json.dumps(key))
        for row in self.rows:
            if plain.items() <= {name: row.get(name) for name in plain}.items():
                return row
        return None

    def has(self, key: dict[str, Any]) -> bool:
        """Whether a row with these facts exists."""
        return self.find(key) is not None

    def add(self, key: dict[str, Any], values: dict[str, Any]) -> None:
        """Append a row and write the file."""
        self.rows.append({**key, "commit": self._header["commit"]})
        self.update(key, values)

    def update(self, key: dict[str, Any], values: dict[str, Any]) -> None:
        """Add values to the row with these facts and write the file."""
        row = self.find(key)
        assert row is not None, f"no row has {key}"
        row.update(values)
        self.write()
        shown = {name: value for name, value in row.items() if name not in self._silent}
        print(json.dumps(shown), flush=True)

    def write(self) -> None:
        """Write the file."""
        write_text(self.path, json.dumps({**self._header, "rows": self.rows}, indent=1) + "\n")
