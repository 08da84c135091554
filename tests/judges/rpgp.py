"""Makes OpenPGP keys with rPGP, and says what rPGP reads in one.

Standard input: a JSON list of wishes, standard output: a JSON list of what became of each, bytes in
hexadecimal. Nothing here judges anything.
"""

import json
import sys

from openpgp.composed import (
    EncryptionCaps,
    KeyType,
    SecretKeyParamsBuilder,
    SignedPublicKey,
    SubkeyParamsBuilder,
)

KINDS = {
    "ed25519": (KeyType.ed25519, KeyType.x25519),
    "ed25519-legacy": (KeyType.ed25519_legacy, lambda: KeyType.ecdh("curve25519")),
    "ed448": (KeyType.ed448, KeyType.x448),
    "p256": (lambda: KeyType.ecdsa("p256"), lambda: KeyType.ecdh("p256")),
    "rsa1024": (lambda: KeyType.rsa(1024), lambda: KeyType.rsa(1024)),
    "rsa3072": (lambda: KeyType.rsa(3072), lambda: KeyType.rsa(3072)),
}


def make(wish):
    primary, encryption = KINDS[wish["kind"]]
    key = SecretKeyParamsBuilder().version(wish["version"]).key_type(primary())
    key = key.can_certify(wish["certifies"]).can_sign(True)
    key = key.preferred_hash_algorithms(["sha512", "sha256"])
    key = key.preferred_symmetric_algorithms(["aes256", "aes128"])
    if wish["created"] is not None:
        key = key.created_at(wish["created"])
    first, *further = wish["user_ids"]
    key = key.primary_user_id(first).user_ids(further)
    if wish["encrypts"]:
        subkey = SubkeyParamsBuilder().version(wish["version"]).key_type(encryption())
        if wish["created"] is not None:
            subkey = subkey.created_at(wish["created"])
        key = key.subkey(subkey.can_encrypt(EncryptionCaps.all()).build())
    secret = key.build().generate()
    public = secret.to_public_key()
    return {
        "fingerprint": public.fingerprint.upper(),
        "public": public.to_bytes().hex(),
        "secret": secret.to_bytes().hex(),
    }


def read(wish):
    keys = SignedPublicKey.from_bytes_many(bytes.fromhex(wish["read"]))
    return {"keys": [shown(key) for key in keys]}


def shown(key):
    return {
        "fingerprint": key.fingerprint.upper(),
        "version": key.version,
        "direct": len(key.details.direct_signatures),
        "subkeys": key.public_subkey_count,
        "user_ids": [
            {"user_id": user.id, "signatures": [signature(one) for one in user.signatures]}
            for user in key.details.users
        ],
    }


def signature(one):
    return {
        "version": one.version(),
        "type": one.typ(),
        "digest": one.hash_alg(),
        "issuers": [issuer.upper() for issuer in one.issuer_fingerprint()],
        "created": one.created(),
        "lasts": one.signature_expiration_time(),
        "policy": one.policy_uri(),
        "notations": [bytes(notation.name).decode() for notation in one.notations()],
    }


wishes = json.load(sys.stdin)
json.dump([read(wish) if "read" in wish else make(wish) for wish in wishes], sys.stdout)
