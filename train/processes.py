"""Which of the processes of a training run this one is, whoever started them.

torchrun and accelerate say it in the environment; Slurm's `srun` and submitit say it there too, in
words of their own. Gradients are averaged over all of them, with NCCL on GPUs and gloo without.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from ..decoding.plumbing.devices import CPU

# What `accelerate launch` can ask for beyond the number of processes; a run's settings are its own.
_ELSEWHERE = {
    "ACCELERATE_USE_FSDP": ("false", "FSDP is not supported, every process holds the whole model"),
    "ACCELERATE_USE_DEEPSPEED": ("false", "DeepSpeed is not supported"),
    "ACCELERATE_USE_MEGATRON_LM": ("false", "Megatron is not supported"),
    "ACCELERATE_DYNAMO_BACKEND": ("no", "compiling the training step is not supported"),
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("1", "set batch_size to what one step is to see"),
}
_FIRST_PORT, _NUM_PORTS = 20_000, 10_000


def take_place(num_threads: int, precision: str = "float32") -> None:
    """Join the processes of a launcher, if there is one, before anything asks how many they are.

    Args:
        num_threads: CPU threads of this process, where the launcher leaves it open.
        precision: That of the run, which a launcher must not contradict.

    Raises:
        ValueError: If `accelerate launch` was told something that a run's settings have to say.
    """
    import torch
    from accelerate import PartialState

    environment = os.environ
    _check_launcher(environment, precision)
    if "RANK" not in environment:
        environment.update(place_of(environment))
    if int(environment.get("WORLD_SIZE", "1")) > 1:
        environment.setdefault("OMP_NUM_THREADS", str(num_threads))
        if not torch.accelerator.is_available():
            # Else accelerate looks for GPUs, finds none, and every process trains for itself.
            environment["ACCELERATE_USE_CPU"] = "true"
            PartialState(cpu=True)


def check_place(device: str) -> None:
    """Raise ValueError unless this process can train on the chosen device; "" leaves it open."""
    from ..policies.place import find_device

    if not device:
        return
    if ":" in device and num_processes() > 1:
        raise ValueError(
            f"device={device} is one GPU, and each of {num_processes()} processes takes its own; "
            "choose device=cuda, or leave it out"
        )
    find_device(device)


def take_device(device: str) -> None:
    """Let this process train on a device, before accelerate chooses one; "" lets it choose.

    Raises:
        ValueError: As `check_place`.
    """
    import torch

    check_place(device)
    if device == CPU and torch.accelerator.is_available():
        os.environ["ACCELERATE_USE_CPU"] = "true"
    elif ":" in device:
        torch.cuda.set_device(device)


def is_main_process() -> bool:
    """Whether this is the process that reports and writes; light, for commands."""
    return (os.environ.get("RANK") or place_of(os.environ).get("RANK", "0")) == "0"


def num_processes() -> int:
    """How many processes the launcher started, 1 without one; light, for commands."""
    found = os.environ.get("WORLD_SIZE") or place_of(os.environ).get("WORLD_SIZE", "1")
    return int(found)


def says_first(text: str) -> bool:
    """Whether no other process of torchrun on this machine said the same; light, for commands.

    A mistake that all of them make is told once, and one that a single process meets is told too.
    """
    report = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not report:
        return True
    # Of one attempt of one run; torchrun makes the folder, one below it per process.
    mark = Path(report).parents[1] / f"said-{zlib.crc32(text.encode()):08x}"
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:
        return True
    return True


def place_of(environment: Mapping[str, str]) -> dict[str, str]:
    """What torchrun would say to a task of Slurm's `srun` or of submitit's local executor.

    Only a job step counts: a batch script has ``SLURM_NTASKS`` too, but is one process that would
    wait for the others forever.

    Returns:
        ``RANK``, ``LOCAL_RANK``, ``WORLD_SIZE``, ``MASTER_ADDR``, ``MASTER_PORT``; nothing for a
        process that is alone.
    """
    if environment.get("SUBMITIT_EXECUTOR") == "local":
        names = ("SUBMITIT_LOCAL_GLOBALID", "SUBMITIT_LOCAL_LOCALID", "SUBMITIT_LOCAL_NTASKS")
        job, host = environment.get("SUBMITIT_LOCAL_JOB_ID", "0"), "127.0.0.1"
    else:
        names = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS")
        job = environment.get("SLURM_JOB_ID", "0")
        host = first_host(environment.get("SLURM_STEP_NODELIST", "127.0.0.1"))
    if any(name not in environment for name in names) or environment[names[2]] == "1":
        return {}
    values = [environment[name] for name in names]
    place = dict(zip(("RANK", "LOCAL_RANK", "WORLD_SIZE"), values, strict=True))
    # All tasks of a job have to find the same port, and jobs that share a node different ones.
    step = int(environment.get("SLURM_STEP_ID", "0"))
    port = _FIRST_PORT + (int(job) * 7 + step) % _NUM_PORTS
    defaults = {"MASTER_ADDR": host, "MASTER_PORT": str(port)}
    return {**place, **{name: environment.get(name, value) for name, value in defaults.items()}}


def first_host(nodes: str) -> str:
    """First of the hosts in Slurm's short form, e.g. gpu003 of ``gpu[003-006,9],cpu1``."""
    found = re.match(r"([^,\[]+)(?:\[([^\],-]+)[^\]]*\])?([^,\[]*)", nodes)
    if found is None:
        raise ValueError(f"SLURM_STEP_NODELIST is no list of hosts: {nodes!r}")
    return "".join(part or "" for part in found.groups())


def _check_launcher(environment: MutableMapping[str, str], precision: str) -> None:
    """Refuse what would silently make the run another one than its settings say."""
    for name, (harmless, reason) in _ELSEWHERE.items():
        given = environment.get(name, harmless)
        if given.lower() != harmless:
            raise ValueError(f"accelerate launch was told {name}={given}, but {reason}")
    given = environment.get("ACCELERATE_MIXED_PRECISION", "no")
    if given not in ("no", precision):
        raise ValueError(
            f"accelerate launch was told --mixed_precision {given}, but the run has "
            f"precision={precision}; choose with precision=…, and leave it out there"
        )
