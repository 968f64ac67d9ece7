"""The workshop's process: `python -m taxiway.optimize FOLDER PARENT`."""

import sys

from taxiway.optimize.workshop.bench import main

if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
