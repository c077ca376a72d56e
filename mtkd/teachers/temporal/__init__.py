"""The temporal teacher: a causal language model over a trial."""
