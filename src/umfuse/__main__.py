"""`python -m umfuse` is the command `umfuse`."""

import sys

from umfuse.cli import main

if __name__ == "__main__":
    sys.exit(main())
