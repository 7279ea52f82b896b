"""`./lab grade`: any number of submissions, graded safely, with a record and reports for each.

`sources` fetches what was handed in, `one` grades a submission, `batch` many of them, on this machine or, with
`on_celery` and `coordinator`, on several; `gradebook` is what an instructor reads in the end.
"""
