"""What the grader gives each lab's submission to work on: one module a lab, with `prepare` and `new_task`."""
