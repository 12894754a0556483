"""`python -m podium`."""

from __future__ import annotations

import sys

from podium.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
