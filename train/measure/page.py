"""The frame of the HTML reports: layout, style, tables and lists that need no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from string import Template

_PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --dim: #667085; }
@media (prefers-color-scheme: dark) { :root { --dim: #a3adbb; } }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: clamp(1.5rem, 4vw, 2.2rem); line-height: 1.2; margin: 1rem 0 0.5rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 0.75rem; }
p { max-width: 44rem; }
.dim, small, figcaption, dt { color: var(--dim); }
small { font-weight: normal; white-space: nowrap; display: block; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.6rem 0.9rem 0.6rem 0; vertical-align: top; }
td { white-space: nowrap; }
thead th { font-weight: 500; font-size: 0.85rem; color: var(--dim); vertical-align: bottom; }
tr { border-bottom: 1px solid var(--line); }
svg { width: 100%; height: auto; font: 14px system-ui, sans-serif; }
svg text:not(.label) { fill: currentColor; }
svg text.label { font-weight: 600; }
svg .major { stroke: #8886; } svg .minor { stroke: #8882; }
svg .median { stroke: currentColor; stroke-width: 2; }
svg .goal { fill: #90dc96; } svg .pillar { fill: #545460; } svg .ring { fill: #5454604d; }
svg .decision { stroke: currentColor; stroke-opacity: 0.5; stroke-dasharray: 3 4; }
svg .tick { font-size: 12.5px; fill-opacity: 0.75; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.grid { gap: 1.6rem 2rem; margin-top: 1.2rem; align-items: end; }
.grid.top { align-items: start; }
.grid figcaption { color: inherit; margin-bottom: 0.3rem; }
.grid figcaption span { color: var(--dim); display: block; font-size: 0.9rem; }
figure { margin: 0; } video, img { max-width: 100%; border-radius: 8px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.3rem 1.2rem; }
dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--soft); padding: 0.7rem 0.9rem; border-radius: 6px; overflow-x: auto; }
pre { margin: 0.3rem 0 1rem; }
ol { padding-left: 1.2rem; }
@media (max-width: 44rem) {
  thead { display: none; }
  tr { display: block; padding: 0.8rem 0; }
  tbody th, td { display: flex; justify-content: space-between; padding: 0.15rem 0; gap: 1rem; }
  tbody th { font-size: 1.05rem; }
  td { text-align: right; }
  td::before { content: attr(data-label); color: var(--dim); }
  small { display: inline; margin-left: 0.5rem; }
  svg { font-size: 22px; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 0.6rem; }
}
</style>
</head>
<body>
$body
</body>
</html>
""")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        label: Its name where a narrow screen shows each cell on a line of its own.
        header: HTML of its header cell.
    """

    label: str
    header: str


@dataclass(frozen=True)
class TableRow:
    """A row of a table.

    Attributes:
        name: Text of its first cell.
        cells: HTML of the others, one per column.
    """

    name: str
    cells: Sequence[str]


def page(title: str, body: str) -> str:
    """Return a whole page around the HTML of its body."""
    return _PAGE.substitute(title=escape(title), body=body)


def table(first: str, columns: Sequence[Column], rows: Sequence[TableRow]) -> str:
    """Return a ``<table>``.

    Args:
        first: Header of the first column, which names the rows.
        columns: The others.
        rows: Their cells.
    """
    headers = "".join(f"<th>{column.header}</th>" for column in columns)
    return (
        f"<table>\n<thead><tr>\n<th>{escape(first)}</th>{headers}\n</tr></thead>\n"
        f"<tbody>{''.join(_row(columns, row) for row in rows)}</tbody>\n</table>"
    )


def facts_list(facts: Mapping[str, str]) -> str:
    """Return a ``<dl>`` of short texts by name."""
    entries = (f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    return f"<dl>{''.join(entries)}</dl>"


def command_list(commands: Mapping[str, str]) -> str:
    """Return an ``<ol>`` of shell commands, each with what it does."""
    entries = (
        f"<li>{escape(purpose)}<pre><code>{escape(command)}</code></pre></li>"
        for command, purpose in commands.items()
    )
    return f"<ol>{''.join(entries)}</ol>"


def _row(columns: Sequence[Column], row: TableRow) -> str:
    cells = "".join(
        f'<td data-label="{escape(column.label)}"><span>{cell}</span></td>'
        for column, cell in zip(columns, row.cells, strict=True)
    )
    return f'<tr><th scope="row">{escape(row.name)}</th>{cells}</tr>'
