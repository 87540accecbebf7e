"""The commands in the order of an operator's work, and what is said to somebody who types another word.

What each command does stands here in a few words: click would cut the first sentence of its help to fit a line.
"""

from __future__ import annotations

from collections.abc import Mapping

import click

SECTIONS: Mapping[str, Mapping[str, str]] = {
    "Begin": {
        "init": "Write a settings file and a key pair; or make what is missing on AWS.",
        "rehearse": "Try the whole job against a fake Cognito on this machine.",
        "check": "Say what would go wrong, and change nothing.",
        "config": "Show every setting as it is in effect.",
        "keygen": "Make a key pair, or a key for tickets.",
    },
    "Run": {
        "push": "Put requests on the queue.",
        "run": "Work through the queue; go on where an earlier run ended.",
    },
    "Look": {
        "status": "How many users are in which state, and what to do next.",
        "show": "All that is known of one user.",
        "export": "The users in one state, to be signed in and pushed again.",
        "report": "The rollout as one page (HTML).",
        "health": "Whether a run here has hung, for a container's health check.",
    },
    "Hand out": {
        "open": "Decrypt the secrets: as lines, letters, QR codes or CSV.",
        "letters-template": "Copy the template of the letters, to change it.",
        "redeliver": "Deliver sealed records again.",
    },
    "Repair": {
        "dismiss": "Say who is not to be enrolled after all.",
        "redrive": "Bring dead letters back to the queue (SQS).",
        "recover": "Bring a ledger up to date that is an older copy.",
    },
    "End": {
        "purge": "Erase what is secret or personal and needed no more.",
        "decommission": "Take away all that a rollout made.",
    },
    "This program": {
        "completion": "Let the shell complete commands, options and settings.",
        "help": "Explain a command: help COMMAND.",
    },
}
"""What a group's help lists: heading, command, what it does. What is missing here stands under another heading."""

MEANT: Mapping[str, str] = {
    "decrypt": "open",
    "delete": "decommission",
    "destroy": "decommission",
    "doctor": "check",
    "enrol": "run",
    "enroll": "run",
    "import": "push",
    "letters": "open",
    "list": "export",
    "qr": "open",
    "erase": "purge",
    "resume": "run",
    "setup": "init",
    "start": "run",
    "test": "rehearse",
    "user": "show",
    "validate": "check",
    "version": "--version",
    "watch": "status",
}
"""Words that people try, and the command that does it here."""


class Commands(click.Group):
    """A group whose help lists its commands by ``SECTIONS``, and which knows some words that are no commands."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """See ``click.Group``. The shell's completion shows the same few words as the help."""
        super().add_command(cmd, name)
        cmd.short_help = next((texts[str(cmd.name)] for texts in SECTIONS.values() if cmd.name in texts), None)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See ``click.Group``. It names the nearest command by itself."""
        meant = MEANT.get(args[0].lower())
        if meant and self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {meant!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - see click
        """See ``click.Group``."""
        widest = max(map(len, self.commands))
        listed = {name for commands in SECTIONS.values() for name in commands}
        others = {name: self.commands[name].get_short_help_str() for name in sorted(self.commands.keys() - listed)}
        for heading, commands in {**SECTIONS, "Commands": others}.items():
            rows = [(name.ljust(widest), text) for name, text in commands.items() if name in self.commands]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


@click.command(name="help")
@click.argument("names", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def help_(context: click.Context, names: tuple[str, ...]) -> None:
    """Show what a command does and which options it takes; without COMMAND, all commands."""
    shown = context.find_root()
    for name in names:
        if not isinstance(shown.command, click.Group):
            shown.fail(f"{shown.command_path!r} has no commands of its own")
        _, command, _ = shown.command.resolve_command(shown, [name])
        assert command is not None
        shown = click.Context(command, info_name=name, parent=shown)
    click.echo(shown.get_help())
