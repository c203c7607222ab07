"""``python -m pipeline`` is ``tasnet``, unless the current folder has a pipeline.py of its own; ``tasnet`` always works."""

from pipeline.cli.app import main

if __name__ == "__main__":
    main()
