"""Room 7: help for tests, yours and ours."""
