"""Methods: one iteration each, as pure functions of networks, images and weights."""
