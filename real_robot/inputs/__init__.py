"""What an operator holds in the hand: gamepads and keys, for moving a robot and for stopping it."""
