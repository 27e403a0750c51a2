"""Work on many persons at once, which an operator starts from the command line."""
