"""The interpreter that the peers run in: `PEERS=/path/to/python`, or the one that `bench/setup.sh` makes."""

import os
from pathlib import Path

PEERS = Path(os.environ.get("PEERS", Path(__file__).resolve().parent / "peers" / "bin" / "python"))
