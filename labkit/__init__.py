"""The machinery of the course: launcher, brokers and grader. No need to open it for the labs."""
