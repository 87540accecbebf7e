"""A plugin of age that stands for hardware: an X25519 key behind age's plugin protocol (age-plugin specification, v1).

``install`` puts its program into a folder of the ``PATH``. It wraps a file key as an age file for its key, in a stanza
of its own. What goes wrong with hardware goes wrong with it on demand: see ``Mood``, which stands in a file beside the
program, for its environment may be empty.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from enum import StrEnum
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Mood(StrEnum):
    """What the plugin does besides its work, or instead of it."""

    WORKS = "works"
    HANGS = "hangs"
    DIES = "dies"
    NOT_PLUGGED_IN = "not plugged in"
    MAKES_NOTHING = "makes nothing"
    ASKS_FOR_PIN = "asks for a PIN"
    ASKS_FIRST = "asks first"
    TALKS = "talks"
    IS_POST_QUANTUM = "is post-quantum"


class Plugin:
    """The plugin's program in a folder, and a key of it."""

    def __init__(self, folder: Path, name: str = "hardware") -> None:
        from tests.support.age_keys import bech32, unbech32
        from worker.sealing import age

        text, recipient = age.keygen("today")
        self.name = name
        self.recipient = bech32(f"age1{name}", unbech32(recipient))
        self.identity = bech32(f"AGE-PLUGIN-{name.upper()}-".lower(), unbech32(text.split()[-1])).upper()
        self.program = folder / f"age-plugin-{name}"
        start = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom tests.support.age_plugin import main\nmain()\n"
        self.program.write_text(f"#!{sys.executable}\n{start}")
        self.program.chmod(0o755)
        self.mood = Mood.WORKS

    @property
    def mood(self) -> Mood:
        return Mood(self._beside(".mood").read_text())

    @mood.setter
    def mood(self, mood: Mood) -> None:
        self._beside(".mood").write_text(mood)

    @property
    def breaks_after(self) -> int | None:
        """After how many starts it dies; ``None``: never."""
        left = self._beside(".left")
        return int(left.read_text()) if left.exists() else None

    @breaks_after.setter
    def breaks_after(self, starts: int | None) -> None:
        self._beside(".left").unlink(missing_ok=True)
        if starts is not None:
            self._beside(".left").write_text(str(starts))

    @property
    def seen(self) -> dict[str, object]:
        """The arguments, the environment and the process of its last start."""
        found: dict[str, object] = json.loads(self._beside(".seen").read_text())
        return found

    def _beside(self, suffix: str) -> Path:
        return self.program.with_name(self.program.name + suffix)


# --- the program itself -----------------------------------------------------------------------------------------------


def main() -> None:
    """Speak the protocol on standard input and output."""
    program = Path(sys.argv[0])
    beside = program.with_name(program.name + ".seen.new")
    beside.write_text(json.dumps({"arguments": sys.argv[1:], "environment": dict(os.environ), "process": os.getpid()}))
    beside.rename(program.with_name(program.name + ".seen"))
    mood = Mood(program.with_name(program.name + ".mood").read_text())
    left = program.with_name(program.name + ".left")
    if left.exists():
        left.write_text(str(starts := int(left.read_text()) - 1))
        mood = Mood.DIES if starts < 0 else mood
    wraps = sys.argv[1] == "--age-plugin=recipient-v1"
    asked = _commands()
    if not wraps and not any(words[2:3] == ["hardware"] for words, _ in asked):  # the library tries stanza by stanza
        _send("done")
        return
    if mood is Mood.HANGS:
        time.sleep(600)
    if mood is Mood.DIES:
        sys.exit(1)
    if mood is Mood.NOT_PLUGGED_IN:
        _tell("error", "recipient" if wraps else "identity", "0", body=b"the token is not plugged in")
    if mood is Mood.TALKS:
        _tell("msg", body=b"touch the token\x1b[31m now")
    if mood is Mood.ASKS_FIRST:
        _tell("confirm", _base64(b"go on"), _base64(b"leave it"), body=b"open a record?")
    if mood is Mood.IS_POST_QUANTUM and wraps:
        _tell("labels", "postquantum")
    if mood is Mood.ASKS_FOR_PIN:
        answer, pin = _tell("request-secret", body=b"PIN of the token")
        if (answer, pin) != ("ok", b"1234"):
            mood = Mood.NOT_PLUGGED_IN
            _tell("error", "recipient" if wraps else "identity", "0", body=b"wrong PIN")
    if mood not in (Mood.MAKES_NOTHING, Mood.NOT_PLUGGED_IN):
        (_wrap if wraps else _unwrap)(asked)
    _send("done")


def _wrap(asked: list[tuple[list[str], bytes]]) -> None:
    import pyrage

    from tests.support.age_keys import bech32, unbech32

    recipients = [words[1] for words, _ in asked if words[0] == "add-recipient"]
    keys = [body for words, body in asked if words[0] == "wrap-file-key"]
    for number, key in enumerate(keys):
        for each in recipients:
            recipient = pyrage.x25519.Recipient.from_str(bech32("age", unbech32(each)))
            _tell("recipient-stanza", str(number), "hardware", body=pyrage.encrypt(key, [recipient]))


def _unwrap(asked: list[tuple[list[str], bytes]]) -> None:
    import pyrage

    from tests.support.age_keys import bech32, unbech32

    identities = [words[1] for words, _ in asked if words[0] == "add-identity"]
    for words, body in asked:
        if words[0] != "recipient-stanza" or words[2] != "hardware":
            continue
        for each in identities:
            identity = pyrage.x25519.Identity.from_str(bech32("age-secret-key-", unbech32(each)).upper())
            try:
                key = pyrage.decrypt(body, [identity])
            except pyrage.DecryptError:
                continue
            _tell("file-key", words[1], body=key)
            break


def _commands() -> list[tuple[list[str], bytes]]:
    found = []
    while (command := _receive())[0][0] != "done":
        found.append(command)
    return found


def _receive() -> tuple[list[str], bytes]:
    first = sys.stdin.readline()
    if not first:
        sys.exit(1)
    body = ""
    while True:
        line = sys.stdin.readline().rstrip("\n")
        body += line
        if len(line) < 64:
            return first.split()[1:], base64.b64decode(body + "=" * (-len(body) % 4))


def _tell(*words: str, body: bytes = b"") -> tuple[str, bytes]:
    _send(*words, body=body)
    answer, content = _receive()
    return answer[0], content


def _send(*words: str, body: bytes = b"") -> None:
    text = _base64(body)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    if not lines or len(lines[-1]) == 64:
        lines.append("")
    sys.stdout.write("".join(f"{line}\n" for line in (f"-> {' '.join(words)}", *lines)))
    sys.stdout.flush()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).rstrip(b"=").decode()
