"""A replica without TensorFlow: answers REST over TLS as a real one does, and says which one it is. For forwarders.

    rest_replica.py SETTINGS.json

The model is what doubles numbers. {"sleep": SECONDS} in a request makes it slow.
"""

import datetime
import hmac
import http.server
import ipaddress
import json
import os
import signal
import ssl
import sys
import threading
import time
from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from slurm_tf.serve import endpoint, replica_settings
from slurm_tf.serve.endpoint import Endpoint, ModelStatus, VersionState, VersionStatus
from slurm_tf.serve.replica_settings import ReplicaSettings


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers for one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    settings: ReplicaSettings
    token: bytes

    def do_GET(self) -> None:
        self._answer({"model_version_status": [{"version": "1", "state": "AVAILABLE"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(asked.get("sleep", 0.0))
        self._answer(
            {
                "predictions": [[2 * number for number in row] for row in asked["instances"]],
                "replica": self.settings.replica,
            }
        )

    def _answer(self, value: object) -> None:
        given = self.headers.get("Authorization", "").encode()
        is_known = self.settings.open or hmac.compare_digest(given, b"Bearer " + self.token)
        body = json.dumps(value if is_known else {"error": "no token"}).encode()
        self.send_response(200 if is_known else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def certificate(host: str) -> tuple[str, str]:
    """Return a certificate for an address and its private key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    until = now + datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, until)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.public_bytes(serialization.Encoding.PEM).decode(), key.private_bytes(*form).decode()


def main() -> None:
    """Serve until SIGTERM."""
    settings = replica_settings.read(sys.argv[1])
    Handler.settings, Handler.token = settings, settings.token() or b""
    server = http.server.ThreadingHTTPServer((settings.address, settings.rest_port), Handler)
    server.daemon_threads = True
    pem, key = certificate(settings.host)
    path = f"{sys.argv[1]}.pem"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(pem + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    versions = (VersionStatus(1, VersionState.AVAILABLE),)
    here = Endpoint(
        settings.replica, settings.job, settings.host, 0, server.server_port, pem, endpoint.fingerprint(pem),
        settings.open, tuple(ModelStatus(each.name, 1, versions) for each in settings.models), time.time(), 0.0,
        settings.ends,
    )  # fmt: skip
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    while not told.wait(endpoint.RENEW_SECONDS if here.written else 0.0):
        here = replace(here, written=time.time())
        endpoint.write(settings.endpoint_folder, here)
    endpoint.remove(settings.endpoint_folder, settings.replica)
    time.sleep(2.0)  # who has read the file may still ask


if __name__ == "__main__":
    main()
