"""The control loop as pure arithmetic in virtual time: no clock, no input or output."""
