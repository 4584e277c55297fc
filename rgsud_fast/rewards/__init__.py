"""Self-reinforcement: rewards found, judged, kept and handed out, for any method."""
