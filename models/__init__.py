"""Decoder models in torch: shapes, layers, adapters, quantised weights, sampling."""
