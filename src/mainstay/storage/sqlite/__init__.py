"""SQLite: events in one file, for tests, tools and programs on one machine. Needs the extra ``sqlite``."""
