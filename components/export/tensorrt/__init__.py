"""TensorRT engines, built from the plain ONNX graph."""
