"""`python -m tubelet`."""

from tubelet.cli import main

main()
