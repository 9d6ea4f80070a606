"""``python -m cli``: the command line, where `mnistcheck` is not on the path."""

from cli.main import main

main()
