"""Room 1: reliable commands. Start reading at `command`, then `store` and `memory`."""
