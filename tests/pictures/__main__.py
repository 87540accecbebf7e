"""Writes every picture, or those that are named: ``python -m tests.pictures [run.svg …]``."""

import asyncio
import sys

from tests.pictures.pictures import FOLDER, PICTURES, make

if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        made = asyncio.run(make(name, FOLDER))
        sys.stdout.write(f"{made} {made.stat().st_size:,} bytes\n")
