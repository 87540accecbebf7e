"""Keys of every kind that people may seal to, made without any tool of age's."""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Iterable
from typing import Literal

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

_CHARACTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_P256 = bytes.fromhex(
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)
"""The generator of P-256, uncompressed: a valid public key, if nobody's."""


def bech32(prefix: str, data: bytes) -> str:
    """Return the data in bech32 (BIP 173), without its limit on the length."""
    values = _regrouped(data, 8, 5, pad=True)
    checksum = _polymod([*_expanded(prefix), *values, *[0] * 6]) ^ 1
    values += [checksum >> 5 * (5 - at) & 31 for at in range(6)]
    return f"{prefix}1{''.join(_CHARACTERS[value] for value in values)}"


def unbech32(text: str) -> bytes:
    """Return the data of a text in bech32, whose checksum is not looked at."""
    values = [_CHARACTERS.index(each) for each in text.lower().rpartition("1")[2]]
    return bytes(_regrouped(values[:-6], 5, 8, pad=False))


def tagged() -> str:
    """A public key of hardware, ``age1tag1…``."""
    return bech32("age1tag", bytes([2 + _P256[-1] % 2]) + _P256[1:33])


def tagged_pq() -> str:
    """A post-quantum public key of hardware, ``age1tagpq1…``: an ML-KEM-768 key whose coefficients are all zero."""
    return bech32("age1tagpq", bytes(1184) + _P256)


def ssh_key(
    kind: Literal["ed25519", "rsa", "ecdsa"] = "ed25519",
    *,
    bits: int = 2048,
    form: Literal["OpenSSH", "TraditionalOpenSSL", "PKCS8"] = "OpenSSH",
    passphrase: bytes = b"",
) -> tuple[bytes, str]:
    """Return an SSH private key's file, and the line of its public key. ``passphrase``: not in the form of OpenSSH."""
    key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    if kind == "rsa":
        key = rsa.generate_private_key(65_537, bits)
    else:
        key = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())
    protection = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), protection)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private, f"{public.decode()} ada@example.org"


def rsa_line(bits: int) -> str:
    """Return the line of an RSA public key of so many bits. It takes no time to make, and has no private key."""
    public = rsa.RSAPublicNumbers(65_537, 2**bits - 1).public_key()
    return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def behind_passphrase(content: bytes, passphrase: bytes, work: int = 10) -> bytes:
    """Return an age file that a passphrase opens (age specification), with little work."""
    key, salt, nonce = (os.urandom(16) for _ in range(3))
    wrap = Scrypt(b"age-encryption.org/v1/scrypt" + salt, 32, 2**work, 8, 1).derive(passphrase)
    wrapped = ChaCha20Poly1305(wrap).encrypt(bytes(12), key, None)
    header = f"age-encryption.org/v1\n-> scrypt {_unpadded(salt)} {work}\n{_unpadded(wrapped)}\n---".encode()
    mac = hmac.digest(HKDF(hashes.SHA256(), 32, None, b"header").derive(key), header, "sha256")
    payload = HKDF(hashes.SHA256(), 32, nonce, b"payload").derive(key)
    sealed = ChaCha20Poly1305(payload).encrypt(bytes(11) + b"\1", content, None)
    return header + f" {_unpadded(mac)}\n".encode() + nonce + sealed


def _unpadded(data: bytes) -> str:
    return base64.b64encode(data).rstrip(b"=").decode()


def locked_ssh_key() -> bytes:
    """Return the file of an SSH private key with a passphrase that nobody knows (OpenSSH, PROTOCOL.key)."""
    public = base64.b64decode(ssh_key()[1].split()[1])
    options = _field(os.urandom(16)) + (16).to_bytes(4, "big")
    parts = (_field(b"aes256-ctr"), _field(b"bcrypt"), _field(options), (1).to_bytes(4, "big"), _field(public))
    content = b"openssh-key-v1\0" + b"".join(parts) + _field(os.urandom(144))
    what = b"OPENSSH PRIVATE" + b" KEY-----\n"
    return b"-----BEGIN " + what + base64.encodebytes(content) + b"-----END " + what


def _field(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


def _expanded(prefix: str) -> list[int]:
    return [ord(each) >> 5 for each in prefix] + [0] + [ord(each) & 31 for each in prefix]


def _polymod(values: Iterable[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for at, generator in enumerate(_GENERATOR):
            checksum ^= generator if top >> at & 1 else 0
    return checksum


def _regrouped(values: Iterable[int], of: int, to: int, *, pad: bool) -> list[int]:
    held = bits = 0
    made = []
    for value in values:
        held, bits = held << of | value, bits + of
        while bits >= to:
            bits -= to
            made.append(held >> bits & (1 << to) - 1)
    if pad and bits:
        made.append(held << (to - bits) & (1 << to) - 1)
    return made
