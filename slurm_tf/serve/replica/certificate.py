"""The certificate of a replica: a site's, or one that it makes for itself, which its endpoint file names."""

import datetime
import ipaddress
import os
import ssl
from dataclasses import dataclass
from typing import List

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from slurm_tf import files
from slurm_tf.errors import ModelError, RunError
from slurm_tf.serve.replica_settings import ReplicaSettings

# Longer than any allocation; a replica makes a new one at each start.
_DAYS = 400
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Certificate:
    """A chain and its private key, in PEM. The key of a certificate made here is nowhere but in memory."""

    chain: bytes
    key: bytes

    def context(self) -> ssl.SSLContext:
        """Return the context of a TLS server. Raises ModelError for a chain and a key that do not belong together."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        # ssl reads files alone: this one is in memory, and no other process opens it
        handle = os.memfd_create("certificate", os.MFD_CLOEXEC)
        try:
            os.write(handle, self.chain + b"\n" + self.key)
            context.load_cert_chain(f"/proc/self/fd/{handle}")
        except ssl.SSLError as error:
            raise ModelError(f"the certificate cannot be used: {error}", "a certificate and its key, in PEM") from error
        finally:
            os.close(handle)
        return context


def of(settings: ReplicaSettings) -> Certificate:
    """Return the certificate that the settings name, or a new one. Raises ModelError, OSError."""
    if not settings.certificate_file:
        return own([settings.host, settings.address, "localhost", "127.0.0.1", "::1"])
    try:
        files.check_own(settings.key_file, sticky=False)
    except RunError as error:
        raise ModelError(error.found, error.needed, error.do) from error
    if os.stat(settings.key_file).st_mode & 0o077:
        raise ModelError("others can read the key", "a file of mode 0600", where=settings.key_file)
    return Certificate(_read(settings.certificate_file), _read(settings.key_file))


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        data = file.read(_MOST_BYTES)
    if b"-----BEGIN " not in data:
        raise ModelError("it is not PEM", "a certificate or a key in PEM", where=path)
    return data


def own(names: List[str]) -> Certificate:
    """Return a certificate that signs itself, for hosts by names and addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "slurm-tf replica")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # clocks of nodes differ
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(each) for each in dict.fromkeys(names)]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    )
    chain = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Certificate(chain, private)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
