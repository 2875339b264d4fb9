"""``mainstay demo``: ten thousand commands with dice in them, worked by processes of which one is killed.

`behaviours` says what a command does, `calculator` what must come of many, `handlers` does it, `workload` makes the
commands, `run` directs it all, `figures` takes stock, `screen` and `tables` show it. The end-to-end application in
``tests/e2e/app`` is made of the same parts.
"""
