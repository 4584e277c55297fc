"""Inference with a trained network; a command a file."""
