"""The steps of preprocessing, each a function from a piece of a signal to the next."""
