"""A person moves the robot: by a leader arm, a gamepad, a keyboard, or the robot's own hand."""
