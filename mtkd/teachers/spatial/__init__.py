"""The spatial teacher: a graph network over the electrodes."""
