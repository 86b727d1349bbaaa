"""A robot file of one's own: what differs from a shipped robot, and nothing else.

python own_robot.py
"""

from pathlib import Path

from hotloop.train.cli import main

Path("my_arm.yaml").write_text(
    """\
base: mujoco-arm     # for real servos: feetech, dynamixel or franka
name: my-arm
control:
  speed: 0.3         # share of the limits that motions between poses use
"""
)
assert main(["doctor", "robot=my_arm.yaml", "--seconds", "0.2"]) == 0
assert main(["control", "robot=my_arm.yaml", "duration=2", "output_dir=run"]) == 0
assert main(["log", "run/log.mcap", "--replay"]) == 0
