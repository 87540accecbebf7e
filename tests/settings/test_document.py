"""The page of the settings says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from worker.cli.completion import SETTINGS
from worker.settings.document import keys, page
from worker.settings.sections import every_setting
from worker.settings.sources import fields, variable

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_what_the_generator_makes() -> None:
    renew = "renew it: python -m worker.settings.document > docs/settings.md"
    assert PAGE.read_text("utf-8") == page(), renew


def test_the_names_that_the_shell_completes_are_those_of_the_settings() -> None:
    renew = "renew it: python -m worker.settings.document keys > worker/cli/settings_keys.txt"
    assert SETTINGS.read_text("ascii") == keys(), renew


def test_it_names_every_setting_with_its_variable() -> None:
    found = re.findall(r"^- \*\*`([\w.]+)`\*\*: .+\.  \n  .+ · .+ · `(\w+)`$", page(), flags=re.MULTILINE)
    assert found == [(key, variable(key)) for key, _ in fields(every_setting())]


def test_a_description_fits_into_an_error_message_and_onto_the_page() -> None:
    for key, definition in fields(every_setting()):
        text = definition.description or ""
        assert text, key
        assert text[-1] not in ".;:,", key
        assert not text[0].isupper() or text.split()[0].isupper(), key
