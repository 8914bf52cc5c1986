"""`python -m reelsense` is the command line."""

from reelsense.cli import main

if __name__ == "__main__":
    main()
