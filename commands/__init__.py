"""The command line, a module a room."""
