"""The counting machine: a training step on a GPU that is not there, and what it launches, moves and waits for."""
