"""Logs of the control loop: written as MCAP, read back, replayed, exported and plotted."""
