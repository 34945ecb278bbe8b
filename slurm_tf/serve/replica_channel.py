"""How a gRPC channel to a replica is made: it trusts the certificate of the endpoint file, and no other one."""

from dataclasses import dataclass

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from slurm_tf.errors import ServiceError
from slurm_tf.serve import endpoint
from slurm_tf.serve.endpoint import Endpoint

# What a replica takes at most is its own affair: no bound here.
_MESSAGES = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
# In the trailers of a replica that is busy (gRPC's proposal A6, client retries).
PUSHBACK = "grpc-retry-pushback-ms"


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """What grpc.secure_channel takes; `credentials` is None for a replica without TLS."""

    target: str
    credentials: "grpc.ChannelCredentials | None"
    options: tuple[tuple[str, int | str], ...]


def settings(replica: Endpoint) -> ChannelSettings:
    """Return how a channel to a replica is made. Raises ServiceError for a certificate that cannot be its own."""
    host = f"[{replica.host}]" if ":" in replica.host else replica.host
    target = f"{host}:{replica.grpc_port}"
    if not replica.certificate:
        return ChannelSettings(target, None, _MESSAGES)
    if endpoint.fingerprint(replica.certificate) != replica.fingerprint:
        raise ServiceError("its certificate is not that of its endpoint file", "a replica's own")
    # a site's certificate may name its hosts only: which one it is says the fingerprint
    first = x509.load_pem_x509_certificates(replica.certificate.encode())[0]
    credentials = grpc.ssl_channel_credentials(first.public_bytes(serialization.Encoding.PEM))
    return ChannelSettings(target, credentials, (*_MESSAGES, ("grpc.ssl_target_name_override", _host(first))))


def is_pushed_back(error: "grpc.RpcError") -> bool:
    """Return whether an error is of a replica that is busy, not one of the connection."""
    return any(name == PUSHBACK for name, _ in error.trailing_metadata() or ())


def _host(certificate: x509.Certificate) -> str:
    """Return a host that a certificate is for, as gRPC checks one. Raises ServiceError for a certificate for none."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise ServiceError("its certificate names no host", "a subjectAltName") from None
    hosts = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    if not hosts:
        raise ServiceError("its certificate names no host", "a subjectAltName")
    return hosts[0].replace("*", "any", 1)
