"""Pieces of input that parsers stumble over, for both drivers to put into what they make up."""

from __future__ import annotations

from tests.fuzzing.harness import MARKER

PIECES: tuple[bytes, ...] = (
    MARKER,
    *(b"{", b"}", b"[", b"]", b'"', b"'", b":", b",", b"\\", b"\n", b"\r", b"\t", b" ", b".", b"-", b"=", b"#", b"%"),
    # text that is none, or looks like another
    *(b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"),
    *(rb"\ud800", rb"\udc00\ud800", rb"\u0000", rb"\x00", rb"\u202e", rb"\N{BOM}"),
    *(
        text.encode()
        for text in ("\u202e", "\u200b", "\u3000", "\u2028", "\u0130", "１２", "²", "٣", "é", "🗝", "\ufffd")
    ),
    # numbers
    *(b"0", b"-1", b"-0", b"1.5", b"1e999", b"-1e999", b"1e-999", b"NaN", b"Infinity", b"-Infinity", b"nan", b"inf"),
    *(b"2147483648", b"9223372036854775808", b"-9223372036854775809", b"9" * 39, b"9" * 400, b"9" * 5_000, b"1_0"),
    *(b"0x10", b"007", b"+1", b"1e5", b"253402300800"),
    # JSON
    *(b"null", b"true", b"false", b"{}", b"[]", b'""', b'{"a":1,"a":2}', b"[" * 3_000, b'{"a":' * 3_000, b"[[]]"),
    # times
    *(b"2025-01-31T12:00:00Z", b"0000-01-01T00:00:00Z", b"9999-12-31T23:59:60Z", b"0001-01-01T00:00:00+23:59"),
    *(b"2025-06-30 23:59:60z", b"1970-01-01T00:00:00.000000001-00:00", b"24h", b"500ms", b"1d"),
    # keys of requests, answers and rows
    *(
        b'"username"',
        b'"session"',
        b'"access_token"',
        b'"ticket"',
        b'"password"',
        b'"attributes"',
        b'"replace"',
        b'"id"',
    ),
    *(
        b'"issued_at"',
        b'"expires_at"',
        b'"__type"',
        b'"message"',
        b'"code"',
        b'"SecretCode"',
        b'"Session"',
        b'"Status"',
    ),
    *(b'"ChallengeName"', b'"ChallengeParameters"', b'"AuthenticationResult"', b'"AccessToken"', b'"ExpiresIn"'),
    *(b'"S"', b'"N"', b'"B"', b'"M"', b'"BOOL"', b'"row"', b'"state"', b'"version"', b'"key"', b'"since"', b'"sealed"'),
    *(b'"generation"', b'"attempt_id"', b'"associated_at"', b'"newest"', b'"older"', b'"events"', b'"activation"'),
    # files
    *(b"age-encryption.org/v1\n", b"-> X25519 ", b"\n--- ", b"AGE-SECRET-KEY-1", b"age1"),
    *(
        b"-----BEGIN AGE ENCRYPTED FILE-----\n",
        b"-----END AGE ENCRYPTED FILE-----\n",
        b"-----BEGIN OPENSSH PRIVATE KEY-----",
    ),
    *(
        b"mfa-worker mark 1 ",
        b"[cognito]\n",
        b"user_pool_id = ",
        b'"""',
        b"'''",
        b"a.b.c",
        b"arn:aws:sqs:",
        b"https://[",
    ),
    *(b"otpauth://totp/", b"NotAuthorizedException", b"com.amazonaws#", b"expired", b"\x1f\x8b", b"PK\x03\x04"),
)
