"""Typed configuration: stage configs, a user's YAML over a preset, and its errors."""
