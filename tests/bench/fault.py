"""What makes a measurement worthless."""


class BenchFault(Exception):
    """Something else was measured than what was meant: refusals, or nothing at all."""
