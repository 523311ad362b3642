"""Autopilot: compute-optimal choice of a training's shape, batch and rates."""
