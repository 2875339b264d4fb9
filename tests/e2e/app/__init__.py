"""The end-to-end application: commands with dice in them. Its parts are those of ``mainstay demo``."""
