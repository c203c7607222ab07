"""The command line: one command a function, each a thin skin over what a Python user calls."""
