"""`python -m alikit` is the command line of cli.py."""

from . import distributed
from .cli import main

if __name__ == "__main__":
    distributed.end(main())
