"""What is on the page of `hotloop demo`, around its numbers."""

from __future__ import annotations

from string import Template

from ..measure.page import Column

COLUMNS = (
    Column("calls", "network calls<br>per plan"),
    Column("executed", "actions executed<br>per plan"),
    Column("success", "success<br>95 % interval"),
    Column("episodes", "episodes"),
    Column("median", "latency<br>median"),
    Column("p99", "latency<br>99th percentile"),
    Column("rate", "control rate"),
)
BODY = Template("""\
<h1>$headline</h1>
<p>$summary</p>
<h2>Results</h2>
$rows
<p class="dim">Latency is the time from an observation to the next action in a control step that
plans. The control rate is its inverse at the median: what a robot can be driven at when every
control step has to wait for a plan. $note</p>
$explanation
<h2>Latency distribution</h2>
$plot
$pareto
$animation
<h2>How it was measured</h2>
$facts
<h2>How to go on</h2>
$commands
""")
