"""The command line. ``app`` lists all commands; ``runs``, ``datasets``, ``models`` and ``results`` hold them by group, each a
thin layer over what a Python user calls; ``arguments`` has the options they share, and ``terminal`` how they print."""
