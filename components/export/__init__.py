"""Exported forms of a model, their parity with the torch model, and the bundle of them."""
