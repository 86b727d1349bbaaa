"""The arithmetic is tried out before it matters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from robots import CONFIG, WORKSPACE

from hotloop.real_robot.core import rehearsal
from hotloop.real_robot.core.controller import Controller
from hotloop.real_robot.core.events import Mode
from hotloop.real_robot.core.rehearsal import rehearse


def test_a_rehearsal_takes_every_path_of_a_run(monkeypatch) -> None:
    seen = []

    class Spy(Controller):
        def step(self, *arguments):
            output = super().step(*arguments)
            seen.append((output.mode, output.chunk, output.command is not None))
            return output

    monkeypatch.setattr(rehearsal, "Controller", Spy)
    config = replace(CONFIG, workspace=WORKSPACE)
    assert rehearse(config, np.array([0.2, 0.3])) is Mode.STOP
    assert {mode for mode, _, _ in seen} == {Mode.ARMED, Mode.RUN, Mode.STOP}
    assert seen[-1][1] == 16 and all(sent for _, _, sent in seen)


@pytest.mark.parametrize("pose", [(9.0, 0.0), (np.nan, 0.0)])
def test_a_pose_that_no_robot_is_armed_in_does_not_matter(pose) -> None:
    assert rehearse(CONFIG, np.array(pose)) is Mode.STOP
