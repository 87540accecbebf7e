"""What is true of every channel's folder, whoever adds one."""

from __future__ import annotations

import subprocess
import sys
from itertools import permutations

from tests.adapters.channels.rigs import CHANNELS
from worker.adapters.channels import kind_of_source, kinds
from worker.settings.stores import ChannelSettings


def test_every_channel_that_there_is_is_under_test() -> None:
    assert {name.partition(" on ")[0] for name in CHANNELS} == kinds().keys()


def test_a_key_that_several_channels_have_is_one_setting() -> None:
    for one, other in permutations((kind.settings for kind in kinds().values()), 2):
        shared = next(base for base in one.__mro__ if issubclass(other, base) and issubclass(base, ChannelSettings))
        assert one.model_fields.keys() & other.model_fields.keys() == shared.model_fields.keys()


def test_no_source_could_be_two_channels() -> None:
    schemes = [kind.scheme for kind in kinds().values() if kind.scheme]

    assert not [each for each, other in permutations(schemes, 2) if other.startswith(each)]
    for kind in kinds().values():
        assert kind.source_form.startswith(kind.scheme)
        assert kind_of_source(kind.source_form) is (kind if kind.scheme else None)


def test_looking_at_all_channels_needs_no_sdk() -> None:
    probe = "import sys; from worker.settings.sections import every_setting; every_setting(); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout.split()

    assert "worker.adapters.channels.s3" in found
    assert {"botocore", "aiobotocore", "aioboto3", "aiohttp", "pyrage"} & {*found} == set()
