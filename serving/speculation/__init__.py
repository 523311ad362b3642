"""Guesses of tokens to come, checked by the model in the step of the one before."""
