"""Everything that hotloop states of GPUs, in one run of at most eight minutes on a bare machine.

    python tests/benchmarks/benchmark_gpu.py --pack FOLDER    here: collects what has to travel
    cd FOLDER && PYTHONPATH=site python benchmarks/benchmark_gpu.py gpu.json              there

Control steps of diffusion policies and token decoders of the published sizes, and training, each
beside its baseline in turns, batch 1, warm, with the target and with the floor that the memory sets
by reading the weights once per network call. Nothing is installed there: torch, transformers and
accelerate have to be, the rest travels.

Every part is a process of its own with a limit of time. It writes its rows as soon as they are
measured; one that fails or takes too long writes why, and the next one begins. Rows that the file
has already are measured again, others are kept. `--tiny` runs the same code with miniatures on the
CPU, eager in place of CUDA graphs, in this process.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
# Behind everything else: what the machine has of its own is taken first.
sys.path.append(str(HERE.parent / "packages"))
SHARE = 0.75  # of a part's time after which no further round begins


class Part(NamedTuple):
    """A group of rows.

    Attributes:
        module: File and function that measures it.
        seconds: After which it is ended [s].
    """

    module: str
    seconds: float


PARTS = {
    "unet-63M": Part("gpu_networks:run_network", 95),
    "unet-247M": Part("gpu_networks:run_network", 95),
    "training": Part("gpu_training:run_training", 70),
    "vla-7b": Part("gpu_tokens:run_tokens", 110),
    "vla-500m": Part("gpu_tokens:run_tokens", 60),
    "pictures": Part("gpu_networks:run_network", 50),
}


def main() -> None:
    """Run all parts, or one, or collect what has to travel."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, nargs="?", default=Path("gpu.json"))
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--tiny", action="store_true", help="miniatures, on the CPU")
    parser.add_argument("--pack", type=Path, metavar="FOLDER", help="collect what has to travel")
    parser.add_argument("--in-process", action="store_true", help="without processes of their own")
    args = parser.parse_args()
    if args.pack is not None:
        from gpu_pack import pack

        print(pack(args.pack))
        return
    if not args.tiny and not args.in_process:
        import torch

        if not torch.cuda.is_available():
            parser.error("PyTorch finds no GPU here; --tiny runs miniatures on the CPU")
    for name in args.parts:
        if args.tiny or args.in_process:
            run_part(name, args.output, tiny=args.tiny)
        else:
            run_process(name, args.output)
    report(args.output)


def run_process(name: str, output: Path) -> None:
    """One part in a process of its own, which ends when its time is up."""
    command = [sys.executable, str(Path(__file__)), str(output), "--parts", name, "--in-process"]
    try:
        code = subprocess.run(command, timeout=PARTS[name].seconds, check=False).returncode
    except subprocess.TimeoutExpired:
        _failed(name, output, f"took longer than {PARTS[name].seconds:g} s")
    else:
        if code:
            _failed(name, output, f"the process ended with exit code {code}")


def run_part(name: str, output: Path, *, tiny: bool) -> None:
    """Measure one part in this process; what it raises becomes its row."""
    end = time.monotonic() + SHARE * PARTS[name].seconds
    try:
        from gpu_rows import Setting

        function = _function(PARTS[name].module)
        function(Setting(name, tiny, end, _results(output, tiny=tiny)))
    except Exception as error:  # noqa: BLE001  the other parts shall be measured
        _failed(name, output, f"{type(error).__name__}: {error}"[:500], tiny=tiny)


def report(output: Path) -> None:
    """Print all rows as a table."""
    import json

    from gpu_rows import table

    print("\n".join(table(json.loads(output.read_text())["rows"])))


def _function(name: str) -> Callable[[Any], None]:
    from importlib import import_module

    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


def _results(output: Path, *, tiny: bool) -> Any:
    from gpu_pack import COMMIT_FILE
    from gpu_rows import device_facts
    from result_rows import Results

    facts, packed = device_facts(tiny=tiny), HERE.parent / COMMIT_FILE
    if packed.is_file():
        facts["commit"] = packed.read_text().strip()
    return Results(output, facts=facts)


def _failed(name: str, output: Path, reason: str, *, tiny: bool = False) -> None:
    results = _results(output, tiny=tiny)
    results.add({"part": name, "part_failed": True}, {"failed": reason})


if __name__ == "__main__":
    main()
