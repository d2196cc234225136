"""`python -m shield`, the same as `shield`."""

from shield.cli import main

main()
