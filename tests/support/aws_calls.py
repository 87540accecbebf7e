"""``mfa-worker`` that counts its AWS requests: python -m tests.support.aws_calls COUNTS.json COMMAND…

At the end the file holds one JSON object: ``service.Operation`` → number of wire attempts, and ``cpu_seconds``.
"""

from __future__ import annotations

import json
import resource
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from worker import cli
from worker.adapters.aws.session import Aws

_make = Aws._make
counters: Counter[str] = Counter()


async def _counting(self: Aws, service: str) -> Any:
    client = await _make(self, service)

    def count(request: Any, operation_name: str, **_: object) -> None:
        counters[f"{service}.{operation_name}"] += 1

    client.meta.events.register(f"request-created.{client.meta.service_model.service_id.hyphenize()}", count)
    return client


def main() -> None:
    path = Path(sys.argv[1])
    sys.argv[1:] = sys.argv[2:]
    Aws._make = _counting  # type: ignore[method-assign]
    try:
        cli.main()
    finally:
        used = resource.getrusage(resource.RUSAGE_SELF)
        path.write_text(json.dumps({**counters, "cpu_seconds": used.ru_utime + used.ru_stime}), "utf-8")


if __name__ == "__main__":
    main()
