"""The grader: runs a submission's scripts against a real broker, breaks things, and says what became of each task."""
