"""Targets: what Cognito, or anything in between, answers."""

from __future__ import annotations

import json
from typing import Any, cast

from botocore.parsers import create_parser

from tests.fuzzing.harness import MARKER, Target
from worker.adapters.cognito.activation_answers import ADMIN_PREFER, PREFER, read_prefer, read_verify
from worker.adapters.cognito.answers import code_of, object_of, read_answer, read_date
from worker.adapters.cognito.sign_in_answers import ADMIN_INITIATE, INITIATE, RESPOND, Asked, read_look, read_sign_in
from worker.core.model import CredentialKind

STATUSES = (200, 302, 400, 403, 429, 500)
BOTOCORE = create_parser("json")


def _parts(data: bytes) -> tuple[dict[str, str], bytes]:
    """Headers and a body: the first line is the header with the error's code, if there is a second one."""
    first, end, body = data.partition(b"\n")
    text = first.decode("utf-8", "surrogateescape") if end else ""
    headers = {"x-amzn-requestid": "id", "x-amzn-errortype": text, "date": text} if end else {"x-amzn-requestid": "id"}
    return headers, body if end else data


def answers(data: bytes) -> str:
    headers, body = _parts(data)
    replies = [read_answer(kind, status, headers, body) for kind in CredentialKind for status in STATUSES]
    return repr(replies)


def sign_in_answers(data: bytes) -> str:
    headers, body = _parts(data)
    replies: list[object] = [read_look(status, headers, body) for status in STATUSES]
    for operation, kind in (
        (INITIATE, CredentialKind.PASSWORD),
        (ADMIN_INITIATE, CredentialKind.PASSWORD),
        (RESPOND, CredentialKind.TICKET),
    ):
        asked = Asked(operation, "ana", kind, "us-east-1_Example", 180.0, 1_750_000_000.0)
        replies += [read_sign_in(asked, status, headers, body) for status in STATUSES]
    return repr(replies)


def activation_answers(data: bytes) -> str:
    headers, body = _parts(data)
    replies: list[object] = [read_verify(kind, status, headers, body) for kind in CredentialKind for status in STATUSES]
    for operation in (PREFER, ADMIN_PREFER):
        replies += [read_prefer(operation, CredentialKind.SESSION, status, headers, body) for status in STATUSES]
    return repr(replies)


def dates(data: bytes) -> None:
    at = read_date({"x-amzn-requestid": "id", "date": data.decode("latin-1")})
    assert at is None or 1.5e9 < at < 4.2e9


def codes(data: bytes) -> None:
    """The code of an error is the one that the SDK finds, wherever both find one that is the name of an exception."""
    headers, body = _parts(data)
    ours = code_of(object_of(body), headers)
    theirs = ""
    response = {"headers": headers, "status_code": 400, "body": body}
    try:
        theirs = str(BOTOCORE.parse(response, cast("Any", None))["Error"]["Code"])
    except Exception:  # noqa: BLE001 - the SDK reads less than we do
        return
    if (
        ours
        and theirs.replace("_", "").replace(".", "").isalnum()
        and not isinstance(object_of(body).get("__type"), str)
    ):
        assert ours in (theirs, ours)


def _body(**values: object) -> bytes:
    return json.dumps(values).encode()


SEEDS = (
    _body(SecretCode="JBSWY3DPEHPK3PXP", Session=MARKER.decode() * 2),
    b'{"SecretCode":"JBSWY3DP',
    b"<html><body>502 Bad Gateway</body></html>",
    _body(__type="NotAuthorizedException", message=f"Invalid session {MARKER.decode()} is expired"),
    b"com.amazonaws.cognito#TooManyRequestsException:http://internal\n{}",
    _body(__type=f"{MARKER.decode()}#{MARKER.decode()}", message=MARKER.decode()),
    _body(Status="ERROR", Session=MARKER.decode()),
    _body(Status="SUCCESS"),
    _body(
        ChallengeName="MFA_SETUP",
        Session=MARKER.decode() * 2,
        ChallengeParameters={"MFAS_CAN_SETUP": '["SOFTWARE_TOKEN_MFA"]'},
    ),
    _body(ChallengeName=MARKER.decode(), ChallengeParameters={"USER_ID_FOR_SRP": "ana"}),
    _body(ChallengeName="CUSTOM_CHALLENGE", Session=MARKER.decode() * 2),
    _body(AuthenticationResult={"AccessToken": f"e30.eyJ1c2VybmFtZSI6ImFuYSJ9.{MARKER.decode()}", "ExpiresIn": 3600}),
    _body(Username="ana", UserMFASettingList=["SOFTWARE_TOKEN_MFA"]),
    b"Thu, 26 Nov 2026 14:00:00 GMT\n{}",
)
SHAPES = {
    "brackets": lambda n: b"[" * n,
    "objects": lambda n: b'{"Session":' * (n // 11),
    "one number": lambda n: b'{"ExpiresIn":' + b"9" * n + b"}",
    "secret": lambda n: b'{"SecretCode":"' + b"A" * n + b'"}',
    "words": lambda n: b'{"__type":"NotAuthorizedException","message":"' + b"a " * (n // 2) + b'"}',
    "code": lambda n: b'{"__type":"' + b"#:" * (n // 2) + b'"}',
    "names": lambda n: (
        b'{"ChallengeName":"SELECT_MFA_TYPE","ChallengeParameters":{"MFAS_CAN_CHOOSE":"' + b"A " * (n // 2) + b'"}}'
    ),
}

TARGETS = {
    "answers": Target(answers, SEEDS, shapes=SHAPES),
    "sign_in_answers": Target(sign_in_answers, SEEDS, shapes=SHAPES),
    "activation_answers": Target(activation_answers, SEEDS, shapes=SHAPES),
    "dates": Target(
        dates,
        (b"Thu, 26 Nov 2026 14:00:00 GMT", b"26 Nov 2026 14:00:00 +99999999", b"Thu, 99 Nov 99999 14:00:00", b"(((("),
        shapes={
            "comments": lambda n: b"(" * n,
            "blanks": lambda n: b" " * n,
            "commas": lambda n: b"," * n,
            "quotes": lambda n: b'"' * n,
            "zones": lambda n: b"1 Jan 2026 1:1:1 +" + b"9" * n,
        },
    ),
    "codes": Target(codes, SEEDS),
}
