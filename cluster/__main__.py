"""`python -m cluster` is the `kibubu` command."""

from cluster.cli import main

main()
