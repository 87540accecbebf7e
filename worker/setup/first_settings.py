"""``init`` for one host: writes a commented settings file and a key pair, both or neither, and never over a file.

The answers are judged one by one, so that whoever is asked can be asked again. No message repeats an answer: it may be
a secret that was pasted into the wrong place.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from worker.adapters.private_files import sync_folder
from worker.core.errors import UsageError
from worker.core.recipients import NoRecipientError
from worker.core.recipients import recipient as read_recipient
from worker.sealing import age
from worker.sealing.recipients import program
from worker.settings.sections import CognitoSettings, OtpSettings
from worker.settings.sources import USUAL
from worker.settings.types import Section

SETTINGS = USUAL.name
"""The name of the settings file."""
KEY = "identity.key"
"""The name of the private key's file."""

_IN_LONGER = re.compile(r"(?:arn:[\w-]+:cognito-idp:([\w-]+):\d*:userpool|https://cognito-idp\.([\w-]+)\.[\w.]+)/(\S+)")
"""A pool's ARN or the issuer of its tokens, which the pool's id ends."""
_IDENTITY_POOL = re.compile(r"(?:arn:\S+identitypool/)?[\w-]+:[0-9a-f]{8}-[0-9a-f-]{27}")
_APP_CLIENT = re.compile(r"[0-9a-z]{20,128}")
_REGION = re.compile(r"[a-z]{2,5}(-[a-z]+){1,3}-\d{1,2}")
"""How Regions of AWS are named; an emulator's pool may be anywhere."""

_LONGEST_NAME = 256
"""Bytes of what may be the name of a file."""
WHERE = "it looks like eu-central-1_AbCdEfGhI: AWS console, Cognito, User pools; or aws cognito-idp list-user-pools"
"""Where somebody finds the id of the pool."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What only a person knows."""

    pool: str
    """The user pool's id."""
    issuer: str
    """The name of the service in people's authenticator app."""
    recipients: tuple[str, ...] = ()
    """Who can open the secrets; empty: whoever has the key pair that is made."""

    @property
    def region(self) -> str:
        """The Region that the pool's id names."""
        return self.pool.partition("_")[0]


def pool_id(text: str) -> str:
    """Return the user pool's id that ``text`` is, or ends with as an ARN does. Raises ``UsageError``."""
    given = text.strip().strip("\"'")
    if longer := _IN_LONGER.fullmatch(given):
        region, given = longer[1] or longer[2], longer[3]
        if not given.startswith(f"{region}_"):
            raise UsageError("the pool's id in that is of another Region than the rest of it", WHERE)
    elif _IDENTITY_POOL.fullmatch(given):
        raise UsageError("that is the id of an identity pool, and people sign in to a user pool", WHERE)
    elif _APP_CLIENT.fullmatch(given):
        raise UsageError("that looks like the id of an app client, and what is asked for is the user pool's", WHERE)
    _refuse(CognitoSettings, "that is no user pool's id", WHERE, user_pool_id=given)
    return given


def issuer(text: str) -> str:
    """Return the issuer. Raises ``UsageError`` for one that nobody could see, or that no QR code can hold."""
    given = text.strip()
    if not given.replace(":", "").strip():
        raise UsageError("the issuer is empty", "write the name of your service, such as Example")
    _refuse(OtpSettings, "this issuer cannot be used", "write the name of your service, such as Example", issuer=given)
    return given


def recipient(text: str) -> str:
    """Return the public key. Raises ``UsageError``, which says what the text is instead."""
    try:
        found = read_recipient(text)
    except NoRecipientError as error:
        if (
            len(text.encode("utf-8", "surrogatepass")) < _LONGEST_NAME
            and "\0" not in text
            and Path(text.strip()).is_file()
        ):
            cure = "give the public key that stands in it, such as what is behind 'public key:' in a file of keygen"
            raise UsageError("that names a file", cure) from None
        raise UsageError(f"that is {error}", error.cure) from None
    if found.plugin and not program(found.plugin):
        return found.text  # the program is needed where the worker runs, and check says so
    try:
        age.AgeSealer([found.text])
    except UsageError as error:
        raise UsageError(f"that is {found.words} of which a letter is wrong or missing", error.hint) from None
    return found.text


def notes(answers: Answers, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield what somebody should look at again, though it can be used."""
    if not _REGION.fullmatch(answers.region):
        yield f"{answers.region} looks like no Region of AWS: is the pool's id spelt right?"
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if (here := environ.get(name)) and here != answers.region:
            yield f"{name} is {here}, and the pool is in {answers.region}: the pool's id decides. Is it the right pool?"
            return
    if len(answers.recipients) == 1:
        yield f"one key opens everything, and if it is lost, so is every secret: name a second one in {SETTINGS}"


def refuse_unfit(folder: Path, *, makes_key: bool) -> None:
    """Raise ``UsageError`` where the files could not be written, before anybody is asked anything."""
    for path in (folder / SETTINGS, folder / KEY)[: 2 if makes_key else 1]:
        if os.path.lexists(path):
            raise _exists(path)
    there = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
    if not there.is_dir():
        raise UsageError(f"{there} is no folder", "name one with --folder DIR")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write in {there}: Permission denied", "name a folder of yours with --folder DIR")


def write(answers: Answers, folder: Path) -> Sequence[Path]:
    """Write the settings file and, where nobody named a recipient, a key pair; return what was made.

    If anything goes wrong nothing is left. Raises ``UsageError``, also where a file is there already.
    """
    key, recipients = "", answers.recipients
    if not recipients:
        key, made = age.keygen(datetime.now(UTC).isoformat(timespec="seconds"))
        recipients = (made,)
    files = {SETTINGS: settings_text(answers, recipients, has_key=bool(key)), **({KEY: key} if key else {})}
    with _all_or_nothing(folder) as made_new:
        for name, text in files.items():
            made_new(folder / name, text)
        sync_folder(folder)
    return [folder.absolute() / name for name in files]


@contextmanager
def _all_or_nothing(folder: Path) -> Iterator[Any]:
    """Make the folder, and yield what makes a file in it; remove all of them if the block raises."""
    made: list[Path] = []

    def make_new(path: Path, text: str) -> None:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise _exists(path) from None
        except OSError as error:
            raise UsageError(
                f"cannot write {path}: {error.strerror}", "name another folder with --folder DIR"
            ) from None
        made.append(path)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)

    missing = [each for each in (folder.absolute(), *folder.absolute().parents) if not each.exists()]
    try:
        try:
            for each in reversed(missing):
                each.mkdir(mode=0o700)
        except OSError as error:
            raise UsageError(f"cannot make {folder}: {error.strerror}", "name another with --folder DIR") from None
        yield make_new
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        for each in missing:
            with suppress(OSError):
                each.rmdir()
        raise


def _exists(path: Path) -> UsageError:
    if path.name == KEY:
        return UsageError(
            f"{path} exists, and a key is never overwritten",
            "give its public key with --recipient age1… (it stands in the file), or name another folder: --folder DIR",
        )
    return UsageError(
        f"{path} exists, and is never overwritten",
        f"look at it: mfa-worker check -c {path}; for another rollout name another folder: --folder DIR",
    )


def _refuse(section: type[Section], cause: str, cure: str, **values: str) -> None:
    try:
        section.model_validate(values)
    except ValidationError as error:
        detail = error.errors(include_input=False, include_url=False)[0]
        why = detail["msg"].replace("Input should", "it should") if detail["type"] != "string_pattern_mismatch" else ""
        raise UsageError(f"{cause}{f': {why}' if why else ''}", cure) from None


def settings_text(answers: Answers, recipients: Sequence[str], *, has_key: bool) -> str:
    """Return the settings file."""
    whose = f"  # Its private key is in {KEY}: move that file to where secrets are opened, off this machine.\n"
    listed = (whose if has_key else "") + "".join(f"  {_toml(each)},\n" for each in recipients)
    return _TEXT.format(
        pool=_toml(answers.pool), region=answers.region, recipients=listed, issuer=_toml(answers.issuer)
    )


def _toml(text: str) -> str:
    """A string in TOML: as in JSON, which lets a few more characters stand as they are."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


_TEXT = """\
# mfa-worker: enrols the users of one Cognito user pool in TOTP MFA, on this host. Written by "mfa-worker init".
#
# A line such as "# account = …" is a default: take its first "# " away to change it. "mfa-worker config show" prints
# every setting, and docs/settings.md explains them. Relative paths are relative to this file. Durations are seconds, or
# text such as "90s", "3m", "1h".

[cognito]
user_pool_id = {pool}  # the pool to enrol, in the Region {region}; the ledger belongs to it alone

[otp]
issuer = {issuer}  # the name of your service, as people see it in their authenticator app
# account = "username"          # what they see below it: or an attribute of the request, such as "email"

[seal]
# Public keys (age1…, or SSH keys). Whoever has the private key of any one of them can open every secret; the worker
# cannot. Two are better, since a lost key loses every secret: "mfa-worker keygen -o spare.key" prints another.
recipients = [
{recipients}]

[rate]
# requests_per_second = 20      # of all workers together. Cognito's quota is 25 for the account and Region, and people
#                               # who set up MFA themselves need some of it

[sign_in]
# flow = "none"                 # requests bring an access token or a Session. "custom_auth": the worker signs users in
#                               # with tickets (push --usernames); "user_password": with passwords
# client_id = "1example2345678" # a flow needs it: an app client that serves this rollout alone

[activation]
# mode = "none"                 # users verify their first code on a page of yours. "verify": the worker does it once it
#                               # has delivered; "prefer": and makes TOTP preferred. Then people need it to sign in

[queue]
# path = "mfa-worker.db"        # requests, and the ledger with the state of every user. On a local disk; back it up

[channel]
# path = "enrolments.jsonl"     # the sealed secrets, one line each; only ever appended to. Leave it and its .mark where
#                               # they are, and open a copy: mfa-worker open -i {key} -o secrets.jsonl COPY
""".replace("{key}", KEY)
