"""`python -m potstill` is `potstill`."""

from potstill.cli.main import main

main()
