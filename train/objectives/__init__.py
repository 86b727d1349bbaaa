"""Objectives: what is minimised, losses and distillation."""
