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
from worker.adapters.aws.transport import Transport

_request = Transport.request
counters: Counter[str] = Counter()
SERVICES = {"DynamoDB_20120810": "dynamodb", "AmazonSQS": "sqs", "": "s3"}
"""What ``X-Amz-Target`` begins with → the service; S3 has no such header."""


async def _counting(self: Transport, method: str, url: str, headers: Any, body: Any, **more: Any) -> Any:
    target, _, operation = headers.get("X-Amz-Target", f".{method}").partition(".")
    if target in SERVICES:  # and not Cognito
        counters[f"{SERVICES[target]}.{operation}"] += 1
    return await _request(self, method, url, headers, body, **more)


def main() -> None:
    path = Path(sys.argv[1])
    sys.argv[1:] = sys.argv[2:]
    Transport.request = _counting  # type: ignore[method-assign]
    try:
        cli.main()
    finally:
        used = resource.getrusage(resource.RUSAGE_SELF)
        path.write_text(json.dumps({**counters, "cpu_seconds": used.ru_utime + used.ru_stime}), "utf-8")


if __name__ == "__main__":
    main()
