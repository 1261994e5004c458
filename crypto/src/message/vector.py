#!/usr/bin/env python3
"""Makes vector.txt with libsodium (PyNaCl) and no code of ours: sender, recipient, message."""

from nacl.bindings import (crypto_box_seal, crypto_sign, crypto_sign_ed25519_pk_to_curve25519,
                           crypto_sign_seed_keypair)


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def number(tag, value):
    return varint(tag << 3) + varint(value)


def field(tag, value):
    return varint(tag << 3 | 2) + varint(len(value)) + value


SENT = 1_800_000_000_123
sender, recipient = bytes([11] * 16), bytes([12] * 16)
sender_pk, sender_sk = crypto_sign_seed_keypair(sender + bytes(16))
recipient_x = crypto_sign_ed25519_pk_to_curve25519(crypto_sign_seed_keypair(recipient + bytes(16))[0])
content = field(1, field(1, b"Hello from libsodium") + number(7, SENT)) + number(15, SENT)
padded = content + b"\x80"
padded += bytes(-len(padded) % 160)
signature = crypto_sign(padded + sender_pk + recipient_x, sender_sk)[:64]
sealed = crypto_box_seal(padded + sender_pk + signature, recipient_x)
envelope = number(1, 6) + field(2, b"") + number(5, SENT) + field(8, sealed)
request = field(1, b"PUT") + field(2, b"/api/v1/message") + field(3, envelope) + number(4, 0)
print(sender.hex(), recipient.hex(), (number(1, 1) + field(2, request)).hex(), sep="\n")
