"""The workshop's process: `python -m taxiway.optimize FOLDER`."""

import sys

from taxiway.optimize.workshop.bench import main

if __name__ == "__main__":
    main(sys.argv[1])
