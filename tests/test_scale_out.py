"""Training on several processes: the same run, one writer, an end for all, and going on."""

from __future__ import annotations

import contextlib
import csv
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import write_pusht_file

from hotloop.train import compose_training, train
from hotloop.train.processes import first_host, place_of, take_place

TEMPLATE = Path(__file__).parents[1] / "train" / "cluster" / "torchrun.sbatch"
SETTINGS = (
    "task=pusht",
    "policy=sdp",
    "policy.model={horizon: 9, num_levels: 24, ladders: [4x2], network: {width: 16, depth: 1}}",
    "policy.sampling.num_execute=4",
    "optim.warmup_steps=3",
    "steps=8",
    "batch_size=8",
    "log_every=3",
    "save_every=1",
)
# A cluster of two nodes, both of which are this machine.
SRUN = """
[[ $1 == --kill-on-bad-exit=1 ]] || exit 9
shift
"$@" & first=$!
"$@" || code=$?
wait $first || code=$?
exit ${code:-0}
"""
# Two tasks of submitit's local executor, without the seconds that two interpreters need to start.
TASKS = """
import os, signal, sys
from hotloop.train import compose_training, loop, train

folder, overrides = sys.argv[1], sys.argv[2:]

def tasks(*more, dies=False):
    children = []
    for rank in "01":
        children.append(os.fork())
        if children[-1]:
            continue
        os.environ |= {"SUBMITIT_LOCAL_GLOBALID": rank, "SUBMITIT_LOCAL_LOCALID": rank,
                       "SUBMITIT_LOCAL_JOB_ID": str(os.getppid())}
        save = loop.Trainer._save
        def killed(self):
            if self.step == 5 and rank == "1":
                os.kill(os.getpid(), signal.SIGKILL)
            save(self)
        if dies:
            loop.Trainer._save = killed
        train(compose_training([*overrides, f"output_dir={folder}", *more]))
        os._exit(0)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

alive, dead = tasks(dies=True)
assert dead == -signal.SIGKILL and alive not in (0, -signal.SIGKILL), (alive, dead)
assert not os.path.exists(f"{folder}/checkpoints/000008")
assert tasks("resume=true") == [0, 0]
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_pusht_file(tmp_path_factory.mktemp("data") / "tiny.npz")
    return f"task.dataset={path}"


def free_port() -> int:
    """A port among those that the template chooses from."""
    for port in range(20_000 + os.getpid() % 5_000, 30_000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE")}
    return {**kept, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", **more}


@pytest.fixture(scope="module")
def two(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on two nodes of one process each, by the template for Slurm."""
    work = tmp_path_factory.mktemp("cluster")
    command = f'#!/bin/sh\nexec "{sys.executable}" -m hotloop.train.cli "$@"\n'
    torchrun = f'#!/bin/sh\nexec "{sys.executable}" -m torch.distributed.run "$@"\n'
    scripts = {"srun": f"#!/bin/bash{SRUN}", "hotloop": command, "torchrun": torchrun,
               "scontrol": "#!/bin/sh\necho localhost\necho other\n"}  # fmt: skip
    for name, script in scripts.items():
        (work / name).write_text(script)
        (work / name).chmod(stat.S_IRWXU)
    slurm = {"SLURM_JOB_ID": str(free_port() - 20_000), "SLURM_JOB_NUM_NODES": "2",
             "SLURM_JOB_NODELIST": "localhost,other", "PROCESSES_PER_NODE": "1",
             "PATH": f"{work}:{os.environ['PATH']}"}  # fmt: skip
    done = subprocess.run(
        ["bash", str(TEMPLATE), *SETTINGS, data, f"output_dir={work / 'run'}"],
        env=environment(**slurm),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("checkpoint: ") == 1, "one process reports"
    return work / "run"


def log_of(folder: Path) -> np.ndarray:
    with (folder / "log.csv").open(newline="") as file:
        rows = [(row["step"], row["loss"], row["lr"]) for row in csv.DictReader(file)]
    return np.array(rows, float)


def test_two_nodes_take_the_steps_of_one_process(two: Path, data: str, tmp_path: Path) -> None:
    """Same losses, same gradients, same weights, up to the order in which gradients are added."""
    train(compose_training([*SETTINGS, data, f"output_dir={tmp_path}"]))
    np.testing.assert_allclose(log_of(two), log_of(tmp_path), rtol=1e-5)
    # After one step the first moment is the gradient, up to a factor.
    for step, tolerance in (("000001", 1e-7), ("last", 1e-5)):
        file = f"checkpoints/{step}/training_state/optimizer.safetensors"
        found, expected = load_file(two / file), load_file(tmp_path / file)
        moments = [key for key in expected if key.endswith("exp_avg")]
        assert any(expected[key].abs().max() > 1e-3 for key in moments)
        for key in moments:
            torch.testing.assert_close(found[key], expected[key], rtol=1e-4, atol=tolerance)


def test_only_one_process_writes(two: Path) -> None:
    """Each step once in the log, one file of TensorBoard, and nothing half done."""
    assert log_of(two)[:, 0].tolist() == list(range(1, 9))
    assert len(list(two.glob("events.*"))) == 1
    assert not list(two.rglob(".*"))


def test_a_killed_process_ends_all_and_the_run_goes_on_bit_for_bit(
    two: Path, data: str, tmp_path: Path
) -> None:
    """Killed at a checkpoint and resumed, under another launcher, it is the run that was not."""
    submitit = {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_NTASKS": "2"}
    command = [sys.executable, "-c", TASKS, str(tmp_path / "run"), *SETTINGS, data]
    subprocess.run(command, check=True, env=environment(**submitit), timeout=280)
    for file in ("model.safetensors", "training_state/optimizer.safetensors"):
        resumed = load_file(tmp_path / "run" / "checkpoints" / "last" / file)
        whole = load_file(two / "checkpoints" / "last" / file)
        assert all(torch.equal(resumed[key], whole[key]) for key in whole)


def test_a_job_that_slurm_starts_again_goes_on(tmp_path: Path) -> None:
    """The template adds resume=true when there is something to resume, and not before."""
    (tmp_path / "srun").write_text('#!/bin/sh\nfor last; do true; done; echo "$last"\n')
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho localhost\n")
    for name in ("srun", "scontrol"):
        (tmp_path / name).chmod(stat.S_IRWXU)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "a",
             "SLURM_RESTART_COUNT": "1", "PATH": f"{tmp_path}:{os.environ['PATH']}"}  # fmt: skip
    command = ["bash", str(TEMPLATE), f"output_dir={tmp_path / 'run'}", "seed=1"]
    for expected in ("seed=1\n", "resume=true\n"):
        shown = subprocess.run(command, env=environment(**slurm), capture_output=True, text=True)
        assert shown.stdout == expected, shown.stderr
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / "run.json").touch()


def test_a_mistake_that_all_processes_make_is_told_once(tmp_path: Path) -> None:
    """By torchrun itself; what only one of them meets is told too."""
    script = tmp_path / "both.py"
    script.write_text(
        "import os, sys, time\nfrom hotloop.train.cli import execute\n"
        "def run(text):\n    raise ValueError(text)\n"
        "execute(run, 'steps must be whole')\n"
        "execute(run, 'of process ' + os.environ['RANK'])\n"
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    done = subprocess.run(
        [*torchrun, str(script)], env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = sorted(line for line in done.stderr.splitlines() if line.startswith("hotloop: "))
    assert found == [
        "hotloop: error: of process 0", "hotloop: error: of process 1",
        "hotloop: error: steps must be whole",
    ]  # fmt: skip


SLURM = {
    "SLURM_JOB_ID": "12345",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NODELIST": "gpu[003-004]",
}


def test_a_task_of_srun_knows_its_place() -> None:
    place = place_of(SLURM)
    assert (place["RANK"], place["LOCAL_RANK"], place["WORLD_SIZE"]) == ("5", "1", "8")
    assert place["MASTER_ADDR"] == "gpu003"
    others = [{**SLURM, "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, {**SLURM, "SLURM_STEP_ID": "1"}]
    same, other = (place_of(one)["MASTER_PORT"] for one in others)
    assert same == place["MASTER_PORT"] != other


@pytest.mark.parametrize("missing", ["SLURM_STEP_NUM_TASKS", "SLURM_PROCID"])
def test_a_batch_script_is_one_process_however_many_tasks_were_asked_for(missing: str) -> None:
    """It would wait for the other seven forever."""
    assert place_of({name: value for name, value in SLURM.items() if name != missing}) == {}
    assert place_of({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}) == {}
    assert place_of({}) == {}


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [("gpu[003-006,9],cpu1", "gpu003"), ("a-1,b[2-3]", "a-1"), ("n[7]x,b", "n7x"), ("one", "one")],
)
def test_the_first_host_of_slurms_short_form(nodes: str, expected: str) -> None:
    assert first_host(nodes) == expected


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ACCELERATE_USE_FSDP", "true", "FSDP is not supported, every process holds the whole"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "set batch_size to what one step is to"),
        ("ACCELERATE_MIXED_PRECISION", "fp16", "precision=float32; choose with precision=…"),
    ],
)
def test_a_launcher_does_not_change_what_a_runs_settings_say(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        take_place(1)
