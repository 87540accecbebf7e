"""Completion by the shell: ``completion SHELL`` prints its script, and here is what options are completed with.

The mechanism is click's: the script calls ``mfa-worker`` at every press of the tab key, so nothing that takes long may
be imported for an answer. The names of the settings are therefore kept in a file beside this one.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ShellComplete, ZshComplete

VARIABLE = "_MFA_WORKER_COMPLETE"
"""The environment variable by which the script asks, as click names it."""

SETTINGS = Path(__file__).with_name("settings_keys.txt")
"""The name of every setting, one a line: ``python -m worker.settings.document keys`` prints them."""


class _Bash(BashComplete):
    """Click's script, but nothing is put behind a word that a value must follow."""

    source_template = BashComplete.source_template.replace(
        "COMPREPLY+=($value)\n", "COMPREPLY+=($value)\n            [[ $value == *= ]] && compopt -o nospace\n"
    )


class _Zsh(ZshComplete):
    source_template = ZshComplete.source_template.replace(
        'completions+=("$key")\n', '[[ "$key" == *= ]] && compadd -U -S "" -- "$key" || completions+=("$key")\n'
    )


SHELLS: dict[str, tuple[type[ShellComplete], str]] = {
    "bash": (_Bash, 'eval "$(mfa-worker completion bash)"  # in ~/.bashrc'),
    "zsh": (_Zsh, 'eval "$(mfa-worker completion zsh)"  # in ~/.zshrc, after compinit'),
    "fish": (FishComplete, "mfa-worker completion fish | source  # in ~/.config/fish/config.fish"),
}
"""The shells, each with what makes its script, and with the line that makes the completion permanent."""


@click.command()
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that lets a shell complete commands, options, states, settings, faults and files.

    \b
    bash:  eval "$(mfa-worker completion bash)"     in ~/.bashrc
    zsh:   eval "$(mfa-worker completion zsh)"      in ~/.zshrc, after compinit
    fish:  mfa-worker completion fish | source      in ~/.config/fish/config.fish
    """
    maker, line = SHELLS[shell]
    click.echo(f"# {line}")
    click.echo(maker(context.find_root().command, {}, "mfa-worker", VARIABLE).source())


def states(_context: click.Context, _option: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The states that ``export`` takes."""
    from worker.core.causes import UNREQUESTED
    from worker.core.model import State

    return _beginning([*(state.value for state in State), UNREQUESTED], incomplete)


def settings(_context: click.Context, _option: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The settings that ``--set`` takes."""
    return _beginning((f"{key}=" for key in SETTINGS.read_text("ascii").split()), incomplete)


def faults(_context: click.Context, _option: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The faults that ``rehearse`` takes, and once there is a slash the operations in which one happens."""
    from worker.rehearsal.fake_cognito.faults import FAULTS

    name, slash, _ = incomplete.partition("/")
    if slash and name in FAULTS:
        return _beginning((f"{name}/{operation}=" for operation in sorted(FAULTS[name].happens_in)), incomplete)
    return _beginning(["help", *(f"{name}=" for name in FAULTS)], incomplete)


def _beginning(words: Iterable[str], incomplete: str) -> list[CompletionItem[str]]:
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]
