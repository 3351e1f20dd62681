"""`python -m pipeline.demo_provider [PORT] [LEDGER]`: the demo provider alone, for tests and the benchmark."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.demo_provider.server import main

if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    main(port, Path(sys.argv[2]) if len(sys.argv) > 2 else None)
