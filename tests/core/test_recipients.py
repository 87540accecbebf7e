"""Public keys as people write them: with comments, blanks, in capital letters, or something else in their place."""

from __future__ import annotations

import base64
import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.age_keys import bech32, rsa_line, ssh_key, tagged, tagged_pq
from worker.core.recipients import Kind, NoRecipientError, recipient, recipients
from worker.sealing import age

TEXT, PUBLIC = age.keygen("today")
PRIVATE = TEXT.split()[-1]
ED25519_FILE, ED25519 = ssh_key()
BARE = " ".join(ED25519.split()[:2])
RSA = ssh_key("rsa")[1]
PLUGIN = bech32("age1yubikey", bytes(33))
AGES_OWN_POST_QUANTUM = bech32("age1pq", bytes(1216))


@pytest.mark.parametrize(
    ("text", "kind", "plugin"),
    [
        (PUBLIC, Kind.X25519, ""),
        (ED25519, Kind.SSH_ED25519, ""),
        (RSA, Kind.SSH_RSA, ""),
        (tagged(), Kind.TAG, ""),
        (tagged_pq(), Kind.TAG_PQ, ""),
        (PLUGIN, Kind.PLUGIN, "yubikey"),
        (AGES_OWN_POST_QUANTUM, Kind.PLUGIN, "pq"),
    ],
    ids=["age", "ed25519", "rsa", "tag", "tagpq", "plugin", "pq"],
)
def test_every_kind_that_the_library_reads_is_known(text: str, kind: Kind, plugin: str) -> None:
    found = recipient(text)
    assert (found.kind, found.plugin) == (kind, plugin)
    assert bool(found.largest) == (not plugin)
    assert len(found.short) < 32


@pytest.mark.parametrize(
    "text",
    [
        f" {PUBLIC}\r\n",
        PUBLIC.upper(),
        f"{PUBLIC} # of the printing house",
        f"{PUBLIC} ada",
        f'"{PUBLIC}",',
        f"\ufeff{PUBLIC}",
    ],
    ids=range(6),
)
def test_blanks_capital_letters_and_comments_make_no_other_key(text: str) -> None:
    assert recipient(text).text == PUBLIC


@pytest.mark.parametrize(
    "text",
    [BARE, f"{BARE} bob@elsewhere", f"  {BARE}\r\n", BARE.replace(" ", "\t"), f"{BARE}  a b c"],
    ids=["bare", "another comment", "blanks", "tab", "words"],
)
def test_an_ssh_key_is_the_same_whatever_its_comment(text: str) -> None:
    assert recipient(text).text == BARE


def test_the_same_key_in_two_spellings_is_one() -> None:
    assert [each.text for each in recipients([PUBLIC, ED25519, PUBLIC.upper(), BARE])] == [PUBLIC, BARE]


def test_an_rsa_key_may_be_as_large_as_age_takes_and_has_a_stanza_of_the_size_that_was_said() -> None:
    for bits in [2_048, 2_049, 2_056, 2_057, 3_072, 3_073, 3_456, 4_095, 4_096]:
        body = base64.b64encode(bytes(-(-bits // 8))).rstrip(b"=").decode()
        stanza = "\n".join(["-> ssh-rsa AAAAAA", *(body[at : at + 64] for at in range(0, len(body) + 1, 64)), ""])
        assert recipient(rsa_line(bits)).largest == len(stanza)


FILES = ["~/.ssh/ada", "/etc/keys/ada", "./ada", "../ada", "id_ed25519.pub", "keys.txt", "identity.key"]
WRONG = {
    "a private key": (PRIVATE, "private key"),
    "in small letters": (PRIVATE.lower(), "private key"),
    "the whole file of one": (TEXT, "private key"),
    "an SSH private key": (ED25519_FILE.decode(), "private key"),
    "an identity of a plugin": ("AGE-PLUGIN-YUBIKEY-1Q9RSTQ9RSTQ9RST", "private key"),
    "GitHub's list": ("https://github.com/ada.keys", "keys are not fetched"),
    "a list without TLS": ("http://keys.example.org/ada", "keys are not fetched"),
    "in another tool's form": ("github:ada", "keys are not fetched"),
    "of another forge": ("gitlab:ada", "keys are not fetched"),
    "a file of keys": (f"{PUBLIC}\n{ED25519}", "several lines"),
    "two keys": (f"{PUBLIC} {PUBLIC}", "several keys"),
    "two with a comma": (f"{PUBLIC},{PUBLIC}", "several keys"),
    "two in capital letters": (f"{PUBLIC} {PUBLIC}".upper(), "several keys"),
    "two in capital letters with a comma": (f"{PUBLIC},{PUBLIC}".upper(), "several keys"),
    "one in the comment of another": (f"{PUBLIC} ada, bob {tagged()}", "several keys"),
    "one in the comment of an SSH key": (f"{ED25519} {PUBLIC}", "several keys"),
    "an SSH key behind one": (f"{PUBLIC} {ED25519}", "several keys"),
    "a key of another kind behind one": (f"{PUBLIC} {ssh_key('ecdsa')[1]}", "several keys"),
    "a torn SSH key behind one": (f"{PUBLIC} {BARE[:20]}", "several keys"),
    "two SSH keys": (f"{ED25519} {RSA}", "several keys"),
    "a letter before it": (f"X{PUBLIC}", "no public key"),
    "a letter behind it": (f"{PUBLIC}X", "cut off or mistyped"),
    "options": (f"no-pty {ED25519}", "options of authorized_keys"),
    "a command": (f'command="x y",no-pty {ED25519}', "options of authorized_keys"),
    "a host": (f"github.com {BARE}", "a host of known_hosts"),
    "a torn SSH key": (BARE[:-30], "cut off or mistyped"),
    "an SSH key with padding of another": (f"{BARE}=", "cut off or mistyped"),
    "an RSA key whose last letter is another": (re.sub(r"w==$", "x==", rsa_line(2_056)), "cut off or mistyped"),
    "an SSH key that is torn after whole bytes": (BARE[:-4], "cut off or mistyped"),
    "an RSA key that is torn after whole bytes": (rsa_line(2_560)[:-88], "cut off or mistyped"),
    "an SSH key with a part too many": (BARE + base64.b64encode(b"\0\0\0\2ab").decode(), "cut off or mistyped"),
    "the name of its kind alone": ("ssh-ed25519", "an SSH key that is cut off"),
    "that of ECDSA alone": ("ecdsa-sha2-nistp256 AAAA", "an SSH key that is cut off"),
    "that of a token alone": ("sk-ssh-ed25519@openssh.com", "an SSH key that is cut off"),
    "a mistyped SSH key": (BARE.replace("AAAAC3", "AAAAC4"), "cut off or mistyped"),
    "another kind's name": (BARE.replace("ed25519", "rsa"), "cut off or mistyped"),
    "ECDSA": (ssh_key("ecdsa")[1], "ECDSA"),
    "DSA": ("ssh-dss AAAAB3NzaC1kc3MAAACBALn4tZ0 ada", "DSA"),
    "a FIDO token": (
        "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIA ada",
        "sign and not decrypt",
    ),
    "a certificate": (
        "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2g ada",
        "certificate",
    ),
    "too small": (ssh_key("rsa", bits=1024)[1], "1024 bits: age refuses fewer than 2048"),
    "too large": (rsa_line(4_097), "4097 bits: age refuses more than 4096"),
    "the first line of PEM": ("-----BEGIN PUBLIC KEY-----", "a form that age does not read"),
    "a public key in PEM": ("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2Vw\n-----END PUBLIC KEY-----", "a form that age"),
    "in the form of RFC 4716": (
        "---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----",
        "a form that age",
    ),
    **{f"the file {name}": (name, "the name of a file") for name in FILES},
    "cut off": (PUBLIC[:-1], "cut off or mistyped"),
    "capital and small letters": (PUBLIC[:9] + PUBLIC[9:].upper(), "cut off or mistyped"),
    "nothing": (" ", "empty"),
    "a name": ("ada@example.org", "no public key"),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_what_is_no_public_key_is_called_what_it_is_with_a_cure_and_never_repeated(text: str, said: str) -> None:
    with pytest.raises(NoRecipientError, match=said) as caught:
        recipients([PUBLIC, text])
    told = f"{caught.value} {caught.value.cure}"
    assert told.startswith("entry 2 is ")
    assert caught.value.cure
    assert not text.strip() or text.strip() not in told
    assert PRIVATE[20:30] not in told


@pytest.mark.parametrize(
    ("wrong", "cure"),
    [
        ("a private key", "throw the old key away: mfa-worker keygen -o FILE"),
        ("a file of keys", "each public key as an entry of its own"),
        ("two keys", "each public key as an entry of its own"),
        ("GitHub's list", "write each line ssh-ed25519"),
        ("options", "such as ssh-ed25519 AAAA"),
        ("a torn SSH key", "ssh-add -L"),
        ("the name of its kind alone", "ssh-add -L"),
        ("a public key in PEM", "ssh-keygen -i -m PKCS8 -f FILE"),
        ("cut off", "age1 and 58 more"),
        ("the file keys.txt", "the public key that stands in it"),
        ("ECDSA", "ssh-ed25519"),
        ("too large", "ssh-ed25519"),
        ("nothing", "mfa-worker keygen -o FILE"),
    ],
)
def test_the_cure_says_what_to_write_instead(wrong: str, cure: str) -> None:
    with pytest.raises(NoRecipientError) as caught:
        recipient(WRONG[wrong][0])
    assert cure in caught.value.cure


def test_of_several_keys_that_do_not_go_together_each_is_named() -> None:
    with pytest.raises(NoRecipientError) as caught:
        recipients([PUBLIC, tagged_pq(), BARE, AGES_OWN_POST_QUANTUM])
    quantum = [recipient(each).short for each in (tagged_pq(), AGES_OWN_POST_QUANTUM)]
    others = [recipient(each).short for each in (PUBLIC, BARE)]
    assert f"({quantum[0]}, {quantum[1]}) stand beside others ({others[0]}, {others[1]})" in str(caught.value)


@pytest.mark.parametrize("other", [PUBLIC, ED25519, tagged(), PLUGIN], ids=["age", "ssh", "tag", "plugin"])
@pytest.mark.parametrize("quantum", [tagged_pq(), AGES_OWN_POST_QUANTUM], ids=["tagpq", "pq"])
def test_a_post_quantum_key_beside_another_is_refused_with_the_reason(quantum: str, other: str) -> None:
    with pytest.raises(NoRecipientError, match=r"stand beside others .*reads everything") as caught:
        recipients([other, other, quantum])
    named, others = recipient(quantum).short, recipient(other).short
    assert f"post-quantum keys ({named}) stand beside others ({others})" in str(caught.value)
    assert caught.value.cure == "name post-quantum keys alone, or none"
    assert len(recipients([tagged_pq(), AGES_OWN_POST_QUANTUM])) == 2


@given(st.text(max_size=120) | st.text("ageAGE1 sh-rd25519+/=q\n", max_size=120))
def test_any_text_is_a_public_key_or_says_why_not(text: str) -> None:
    with suppress(NoRecipientError):
        found = recipient(text)
        assert recipient(found.text) == found
        return
    with pytest.raises(NoRecipientError) as caught:
        recipient(text)
    assert caught.value.cure
    assert len(text.strip()) < 12 or text.strip() not in f"{caught.value} {caught.value.cure}"
