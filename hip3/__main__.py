"""`python -m hip3` is the console script `hip3`."""

import sys

try:
    from hip3.cli.main import main

    if __name__ == "__main__":
        main()
except KeyboardInterrupt:  # while it is being imported: nothing was begun
    sys.exit(130)
