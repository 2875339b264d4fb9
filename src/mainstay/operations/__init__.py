"""Running mainstay: what operators ask and do, and the command line that they do it from."""
