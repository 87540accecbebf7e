"""The command ``report`` on AWS: queue, ledger and channel on an emulator."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.aws_rollout import aws_rollout_in
from tests.support.emulators import Emulator


async def test_a_page_is_made_of_a_ledger_in_dynamodb(
    tmp_path: Path, ministack: Emulator, aws_credentials: None
) -> None:
    async with aws_rollout_in(tmp_path, ministack, "secretsmanager") as rollout:
        await rollout.fake_cognito.set_faults("session_spent@ben=1x")
        await rollout.push_by_command(await rollout.sign_in("ana", "ben", credential="session"))
        await rollout.run()

        ended = await rollout.command("report", "--html", "report.html", "--usernames")

        assert (ended.code, ended.out) == (0, "report.html: Finished, but 1 of 2 users is left to a person.\n"), (
            ended.err
        )
        page = (rollout.folder / "report.html").read_text("utf-8")
        assert "<bdi>ben</bdi>" in page
        assert f"table {rollout.name}" in re.sub(r"<[^>]*>", "", page)
