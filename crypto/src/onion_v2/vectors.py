#!/usr/bin/env python3
"""Makes vectors.txt with libsodium (PyNaCl) and OpenSSL (cryptography) and no code of ours.

A line each: cipher, client's secret key, node's secret key, nonce, plaintext, ciphertext.
"""

import hashlib
import hmac

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.bindings import (crypto_aead_xchacha20poly1305_ietf_encrypt, crypto_scalarmult,
                           crypto_scalarmult_base)


def aes_gcm(shared, client, node, nonce, text):
    key = hmac.new(b"LOKI", shared, hashlib.sha256).digest()
    return nonce[:12] + AESGCM(key).encrypt(nonce[:12], text, None)


def xchacha20(shared, client, node, nonce, text):
    key = hashlib.blake2b(shared + client + node, digest_size=32).digest()
    return nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(text, None, nonce, key)


def aes_cbc(shared, client, node, nonce, text):
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(shared), modes.CBC(nonce[:16])).encryptor()
    return nonce[:16] + encryptor.update(padder.update(text) + padder.finalize())


for number, cipher in enumerate([aes_gcm, xchacha20, aes_cbc]):
    for size in (0, 1, 16, 61):
        client = bytes(number + size + i for i in range(32))
        node = bytes(200 - number - size - i for i in range(32))
        nonce = bytes(90 + size + i for i in range(24))
        text = bytes(7 * i % 256 for i in range(size))
        sealed = cipher(crypto_scalarmult(client, crypto_scalarmult_base(node)),
                        crypto_scalarmult_base(client), crypto_scalarmult_base(node), nonce, text)
        print(cipher.__name__, *(value.hex() for value in (client, node, nonce, text, sealed)), sep="|")
