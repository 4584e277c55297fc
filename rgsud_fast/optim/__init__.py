"""What any optimiser's step needs."""
