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

    def has(self, key: dict[str, Any]) -> bool:
        """Whether a row with these facts exists."""
        plain = json.loads(json.dumps(key))
        return any(plain.items() <= {k: row.get(k) for k in plain}.items() for row in self.rows)

    def add(self, key: dict[str, Any], values: dict[str, Any]) -> None:
        """Append a row and write the file."""
        row = {**key, **values, "commit": self._header["commit"]}
        self.rows.append(row)
        write_text(self.path, json.dumps({**self._header, "rows": self.rows}, indent=1) + "\n")
        print(json.dumps({k: v for k, v in row.items() if k != "scores"}), flush=True)
