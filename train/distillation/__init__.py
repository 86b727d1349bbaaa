"""Distillation methods: how a trained policy becomes one of fewer network calls."""
