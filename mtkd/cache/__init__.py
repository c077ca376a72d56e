"""What the teachers know, written down once: shards beside the data's, with the same names and keys."""
