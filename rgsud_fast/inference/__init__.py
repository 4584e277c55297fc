"""What a trained network does; a command a file."""
