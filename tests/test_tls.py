"""A job server asked over TLS that has none, or the reverse: real sockets, and a certificate that signs itself."""

import ipaddress
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from engine.flow import submission, tls
from jobs.__main__ import main

HOST = "127.0.0.1"


class Quiet(BaseHTTPRequestHandler):
    def log_message(self, *_):
        """Nothing: a test's output is read."""


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, *_):
        """Nothing: who speaks no TLS fails the handshake, and its server says so."""


@pytest.fixture(autouse=True)
def without_others(monkeypatch):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def listening():
    """Begins a plain HTTP server, with a context one over TLS; its port."""
    begun = []

    def begin(context=None):
        server = QuietServer((HOST, 0), Quiet)
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        begun.append(server)
        return server.server_port

    yield begin
    for server in begun:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def signed_by_itself(tmp_path_factory):
    """What a server needs to speak TLS."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(secret + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def told(capsys, at, monkeypatch):
    """What `submit` says of an address at which it begins nothing; that it ever answered is not said."""
    monkeypatch.setenv("RAY_ADDRESS", at)
    assert main(["submit", "datasets"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "any more" not in said
    return said


def test_an_address_with_https_of_a_plain_server_is_told_that_it_speaks_no_tls(listening, monkeypatch, capsys):
    port = listening()
    said = told(capsys, f"https://{HOST}:{port}", monkeypatch)
    assert f"the job server at https://{HOST}:{port}, asked to tell its version, does not answer: " in said
    assert f"what listens there speaks no TLS, which https:// asks for: RAY_ADDRESS=http://{HOST}:{port} may do" in said


def test_an_address_with_http_of_a_server_with_tls_is_told_that_it_speaks_tls(listening, signed_by_itself, monkeypatch, capsys):
    port = listening(signed_by_itself)
    said = told(capsys, f"http://{HOST}:{port}", monkeypatch)
    assert f"what listens there speaks TLS, which http:// does not ask for: RAY_ADDRESS=https://{HOST}:{port} may do" in said


def test_a_certificate_that_nobody_trusts_is_named_as_the_reason(listening, signed_by_itself, monkeypatch, capsys):
    said = told(capsys, f"https://{HOST}:{listening(signed_by_itself)}", monkeypatch)
    assert "certificate verify failed: self-signed certificate" in said
    assert "what listens there" not in said


def test_who_asks_for_nodes_is_told_the_same(listening, monkeypatch):
    port = listening()
    monkeypatch.setenv("RAY_ADDRESS", f"https://{HOST}:{port}")
    with pytest.raises(ConnectionError, match=rf"asked to tell its nodes, does not answer: .*RAY_ADDRESS=http://{HOST}:{port} may do$"):
        submission.room()


def test_a_server_that_gives_no_connection_is_taken_for_neither(listening):
    port = listening()
    assert tls.speaks_tls(HOST, port, 5.0) is False
    assert tls.speaks_tls(HOST, 1, 5.0) is None
    assert tls.mismatch("RAY_ADDRESS", f"http://{HOST}:{port}", 5.0) == tls.mismatch("RAY_ADDRESS", f"https://{HOST}:1", 5.0) == ""
