"""Result files of benchmarks: rows that are written as soon as they are measured, and kept."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from hotloop.train.files import write_text
from hotloop.train.provenance import measurement_header


class Results:
    """Rows of a result file, by what they measure.

    Args:
        path: The file; rows that it has already are kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            self.rows = json.loads(path.read_text())["rows"]
        self._header = measurement_header(shlex.join(["python", *sys.argv]))

    def find(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """The row with these facts, if it exists."""
        plain = json.loads(json.dumps(key))
        matching = (row for row in self.rows if plain.items() <= row.items())
        return next(matching, None)

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
        write_text(self.path, json.dumps({**self._header, "rows": self.rows}, indent=1) + "\n")
        print(json.dumps({k: v for k, v in row.items() if k != "scores"}), flush=True)
