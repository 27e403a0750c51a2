"""What stops an evaluation, in a sentence that says what to do."""


class EvaluationFault(Exception):
    """The labelled set, the options or the environment do not allow the evaluation that was asked for."""
