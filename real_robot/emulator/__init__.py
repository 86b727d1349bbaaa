"""Robots in software, for tests and for trying things out without hardware."""
