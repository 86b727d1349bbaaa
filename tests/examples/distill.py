"""A streaming policy distilled to one network call per control step, and what that gains.

python distill.py
"""

import dataclasses

from hotloop.train import (
    BenchConfig,
    DiffusionPolicyConfig,
    JumpDistillConfig,
    bench,
    compose_training,
    distill,
    train,
)
from hotloop.train.demonstrations.generate import Collection, generate_demonstrations

generate_demonstrations("maze.hdf5", Collection("pointmaze-umaze", num_episodes=20))
config = compose_training(
    [
        *("policy=sdp", "task=pointmaze-umaze", "task.dataset=maze.hdf5", "output_dir=teacher"),
        *("steps=100", "batch_size=64", "policy.model.network.width=128", "optim.warmup_steps=20"),
    ]
)
assert not isinstance(config.policy, DiffusionPolicyConfig), "segments are streaming policies'"
teacher = train(config)

jumps = JumpDistillConfig(calls_per_step=(1,), num_visits=64, refresh_every=50)
student = distill(
    teacher, dataclasses.replace(config, output_dir="student", steps=50, distill=jumps)
)
measured = bench([str(teacher), str(student)], BenchConfig(engines=("eager",), steps=20))
for row in measured["rows"]:
    print(row)
