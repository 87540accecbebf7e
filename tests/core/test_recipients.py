"""Public keys as people write them: with comments, blanks, in capital letters, or something else in their place."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.age_keys import bech32, ssh_key, tagged, tagged_pq
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


WRONG = {
    "a private key": (PRIVATE, "private key"),
    "in small letters": (PRIVATE.lower(), "private key"),
    "the whole file of one": (TEXT, "private key"),
    "an SSH private key": (ED25519_FILE.decode(), "private key"),
    "an identity of a plugin": ("AGE-PLUGIN-YUBIKEY-1Q9RSTQ9RSTQ9RST", "private key"),
    "GitHub's list": ("https://github.com/ada.keys", "keys are not fetched"),
    "in another tool's form": ("github:ada", "keys are not fetched"),
    "a file of keys": (f"{PUBLIC}\n{ED25519}", "several lines"),
    "two keys": (f"{PUBLIC} {PUBLIC}", "several keys"),
    "two with a comma": (f"{PUBLIC},{PUBLIC}", "several keys"),
    "options": (f"no-pty {ED25519}", "options of authorized_keys"),
    "a command": (f'command="x y",no-pty {ED25519}', "options of authorized_keys"),
    "a host": (f"github.com {BARE}", "a host of known_hosts"),
    "a torn SSH key": (BARE[:-30], "cut off or mistyped"),
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
    "a public key in PEM": ("-----BEGIN PUBLIC KEY-----", "a form that age does not read"),
    "a file": ("~/.ssh/id_ed25519.pub", "the name of a file"),
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
