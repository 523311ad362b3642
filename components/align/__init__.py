"""Alignment: preference data, reward model, and PPO with a rule judge."""
