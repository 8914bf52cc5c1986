"""Texts to predictions with numpy and onnxruntime alone."""
