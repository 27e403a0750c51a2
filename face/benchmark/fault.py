"""What stops a benchmark, in a sentence that says what to do."""


class BenchmarkFault(Exception):
    """The photographs, the options or the environment do not allow the benchmark that was asked for."""
