"""Budgets of a training: steps, minutes and operations, and the measurements behind them."""
