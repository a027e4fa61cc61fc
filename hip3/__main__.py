"""`python -m hip3` is the console script `hip3`."""

from hip3.cli.main import main

if __name__ == "__main__":
    main()
