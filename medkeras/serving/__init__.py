"""Serving: TensorFlow Serving's protocol over REST and gRPC, on any machine that has TensorFlow."""
