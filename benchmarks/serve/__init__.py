"""``modelmill bench serve``: speed, latency and steadiness of the endpoint beside llama.cpp.

Models have random weights: speed depends on the shape alone. They are made so that no answer ends
early and every token is a text of its own (``served_models.py``), packed as a run packs them, and
asked over HTTP by a generator of load that counts what it receives (``load_generator.py``). All
compute on one thread each, the rounds alternate, medians are reported, and beside every speed
stands the processor time that the server and all its children spent for a token.
"""
