"""Parts of any optimiser's step."""
