"""A team's own judged answers: their tokens and pairs, and their part in the reward head."""
