"""A key with certificates that no verifier knows, for tests of signing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest


def write_key(folder: Path) -> tuple[Path, Path]:
    """A new private key and its chain, as files; skips the test where the extra is missing."""
    pytest.importorskip("c2pa")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    authority, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    names = {
        key: x509.Name(
            [
                x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Example"),
                x509.NameAttribute(x509.NameOID.COMMON_NAME, common),
            ]
        )
        for key, common in ((authority, "Authority"), (own, "Tests"))
    }
    now, chain = datetime.now(UTC), b""
    for key in (own, authority):
        is_authority = key is authority
        usage = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "crl_sign",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(names[key])
            .issuer_name(names[authority])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not is_authority, key_cert_sign=is_authority, **usage
                ),
                critical=True,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),
                critical=False,
            )
        )
        if not is_authority:
            purpose = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(purpose, critical=False)
        signed = builder.sign(authority, hashes.SHA256())
        chain += signed.public_bytes(serialization.Encoding.PEM)
    files = folder / "key.pem", folder / "chain.pem"
    files[0].write_bytes(
        own.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    files[0].chmod(0o600)
    files[1].write_bytes(chain)
    return files
