"""``python -m latens`` is the ``latens`` command."""

import sys

if __name__ == "__main__":
    from latens.cli.main import main

    sys.exit(main())
