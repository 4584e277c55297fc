"""The machine under a run: devices, processes, files and what the user sees meanwhile."""
