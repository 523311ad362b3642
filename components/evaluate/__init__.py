"""Evaluation of models: reports on one model, and the choice between candidates."""
