"""``python -m pipeline`` is ``tasnet``; torchrun starts it this way."""

from pipeline.cli.app import main

if __name__ == "__main__":
    main()
