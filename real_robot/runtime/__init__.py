"""Processes around the control loop: control, policy, log, and what they share."""
