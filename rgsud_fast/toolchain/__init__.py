"""RL-Restore: small tools, trained one by one; an agent that chains them; and both tuned together."""
