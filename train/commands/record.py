"""`hotloop record`: a person shows a robot what to do, and it becomes a dataset."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..config.compose import compose, describe_choices

if TYPE_CHECKING:
    from ...real_robot.config import RobotConfig
    from ...real_robot.runtime.job import RunConfig
    from .recording import RecordConfig

EPILOG = """\
choices:
{choices}
  leader=…  the same, for the arm that leads

examples:
  hotloop record robot=my_arm.yaml leader=my_leader.yaml dataset=outputs/data \\
      task='pick up the cube' episodes=50 reset=[0,-1,1,0,0,0] teleop.by_range=[gripper] \\
      robot.cameras.front.driver=opencv robot.cameras.front.size=[480,640] \\
      robot.cameras.front.options.source=0
  hotloop record robot=my_arm.yaml teleop.by=gamepad teleop.space=tool dataset=outputs/data task=…
  hotloop record robot=my_arm.yaml teleop.by=hand dataset=outputs/data task='wipe the table'
  hotloop record teleop.by=keyboard dataset=outputs/data task='wave'     # a simulated arm

On a terminal: s starts an episode, k keeps it, d drops it, b drops it and records it again.
Space stops the robot at once, r resets, a arms again, q ends. On a gamepad start, A, B and Y are
s, k, d and b; which keys or sticks move what is told at the start. An episode that was kept is in
the dataset, whatever happens afterwards; the same dataset= goes on where it ended.

The leader arm is calibrated like the robot, with the same zero pose and directions, into a file of
its own: hotloop calibrate robot=feetech robot.options.port=… --output my_leader.yaml

more settings: fps=30, pictures=video or png, episode_time= (keeps an episode by itself [s]),
duration=, teleop.speed=0.25, output_dir= (keeps log.mcap and summary.json)"""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the `record` command."""
    parser = subparsers.add_parser(
        "record",
        help="show a robot what to do, and record it",
        description=(
            "Move a robot by a leader arm, gamepad, keyboard or by hand, within its limits, and "
            "record episodes with pictures into a LeRobotDataset v3.0 that grows."
        ),
        epilog=EPILOG.format(choices=describe_choices(["robot"])),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Compose the configuration, run, print and write the summary."""
    from .control import conduct, exit_code
    from .recording import RecordConfig, with_leader

    overrides, leader = with_leader(args.overrides)
    config = compose("record", overrides, RecordConfig)
    robot, job = prepare(config, leader)
    summary = conduct(robot, job, " ".join(["hotloop record", *args.overrides]), config.output_dir)
    return exit_code(summary)


def prepare(config: RecordConfig, leader: RobotConfig | None) -> tuple[RobotConfig, RunConfig]:
    """Turn the configuration into what the runtime takes.

    Raises:
        ValueError: If its parts do not fit each other.
    """
    from ...real_robot.runtime.job import RunConfig
    from .control import check_folder, check_robot
    from .recording import recorded_job
    from .recording_policy import RecordOptions

    teleop = config.teleop.led_by(leader)
    robot = config.robot
    check_robot(robot)
    if teleop.by == "hand":
        from ...real_robot.teleop.hand import led_by_hand

        robot = led_by_hand(robot)
    options = RecordOptions(
        dataset=config.dataset,
        task=config.task,
        teleop=teleop,
        pictures=config.pictures,
        episodes=config.episodes,
        episode_time=config.episode_time,
        reset=config.reset,
        fps=config.fps,
    )
    log = check_folder(config.output_dir)
    return robot, recorded_job(robot, options, RunConfig("", duration=config.duration, log=log))
