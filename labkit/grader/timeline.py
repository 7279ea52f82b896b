def page(grading, result):
    return "todo"
