"""Checkpoints that LeRobot wrote, read without LeRobot."""
