"""The one error of fedctl's verbs."""


class CliError(Exception):
    """What went wrong and what to do about it, in words for the user."""
