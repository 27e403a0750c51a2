"""From the weights as they are published to models for onnxruntime; needed at set-up only."""
