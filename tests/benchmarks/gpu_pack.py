"""What has to travel to a machine without a package registry, in one folder."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path

from hotloop.train.measure.provenance import commit

ROOT = Path(__file__).parents[2]
SUB_PACKAGES = ("decoding", "envs", "policies", "train", "real_robot")
# What images with torch, transformers and accelerate lack; all of it is Python alone.
CARRIED = ("hydra-core", "omegaconf", "antlr4-python3-runtime", "einops")
COMMIT_FILE = "commit.txt"
LARGEST = 64 * 2**20  # [byte]
# Weights of included checkpoints, and what belongs to other programs.
_LEFT = shutil.ignore_patterns(
    "checkpoints", "integrations", "__pycache__", "*.safetensors", "*.png", "results"
)


def pack(folder: Path) -> str:
    """Copy the library, the benchmarks and the carried packages into a new folder.

    Returns:
        The command that runs the benchmark from within it.

    Raises:
        FileExistsError: If the folder is there.
        ValueError: If a carried package is compiled, or the folder becomes too large.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; choose a new folder for --pack")
    for name in SUB_PACKAGES:
        shutil.copytree(ROOT / name, folder / "site" / "hotloop" / name, ignore=_LEFT)
    shutil.copytree(ROOT / "tests" / "benchmarks", folder / "benchmarks", ignore=_LEFT)
    for name in CARRIED:
        copy_distribution(name, folder / "packages")
    (folder / COMMIT_FILE).write_text(f"{commit()}\n")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > LARGEST:
        raise ValueError(f"{folder} takes {size / 2**20:.0f} MiB, at most 64 MiB may travel")
    print(f"{folder}: {size / 2**20:.1f} MiB")
    return f"cd {folder.name} && PYTHONPATH=site python benchmarks/benchmark_gpu.py gpu.json"


def copy_distribution(name: str, target: Path) -> None:
    """Copy an installed package that is Python alone, its metadata included.

    Raises:
        ValueError: If it is compiled, and so belongs to one version of Python.
    """
    distribution = metadata.distribution(name)
    files = [one for one in distribution.files or () if ".." not in one.parts]
    compiled = [str(one) for one in files if one.suffix in (".so", ".pyd", ".dylib")]
    if compiled:
        raise ValueError(f"{name} cannot be carried: {compiled[0]} is compiled")
    for one in files:
        source = Path(str(distribution.locate_file(one)))
        if "__pycache__" not in one.parts and source.is_file():
            (target / one).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / one)
