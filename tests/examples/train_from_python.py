"""Demonstrations, training and evaluation from Python, in the smallest size that says something.

python train_from_python.py
"""

from hotloop.decoding import Executor
from hotloop.envs import make_task, summary
from hotloop.policies import load_checkpoint
from hotloop.train import EvalConfig, EvalOptions, compose_training, evaluate, train
from hotloop.train.demonstrations.generate import Collection, generate_demonstrations

generate_demonstrations("maze.hdf5", Collection("pointmaze-umaze", num_episodes=20))

config = compose_training(
    [
        *("policy=sdp", "task=pointmaze-umaze", "task.dataset=maze.hdf5", "output_dir=run"),
        *("steps=150", "batch_size=64", "policy.model.network.width=128", "optim.warmup_steps=20"),
    ]
)
folder = train(config)

episodes = EvalConfig(eval=EvalOptions(n_episodes=4), sampling={"calls_per_step": 1})
print(summary(evaluate(folder, episodes)))

# What the evaluation did, step by step.
environment = make_task("pointmaze-umaze").make()
executor = Executor(load_checkpoint(folder).policy({"calls_per_step": 1}))
executor.reset(seeds=[0])
frame = environment.reset(seed=0)
for _ in range(10):
    action = executor.act({key: value[None] for key, value in frame.items()})[0]
    frame, reward, done = environment.step(action)
environment.close()
