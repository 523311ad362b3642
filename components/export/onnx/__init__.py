"""ONNX graphs with a KV cache: written node by node, and run on a CPU."""
