"""What may not be graded."""


class BadSource(Exception):
    """It cannot be graded as handed in. Its text is one line for the instructor."""
