"""From a box of servos to a robot file: IDs, directions, zeros and limits, measured by hand."""
