"""Training loop and its parts: optimiser, schedule, states, spikes, monitor, adapters."""
