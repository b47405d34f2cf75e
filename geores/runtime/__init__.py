"""How a network is run: eagerly by torch, or by ONNX Runtime; the same answers within a stated tolerance."""
