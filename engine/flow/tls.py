"""Whether what listens at an address speaks TLS: whoever asks it in the other way gets an answer that names no reason."""

import socket
import ssl
from urllib.parse import urlsplit, urlunsplit


def mismatch(name: str, at: str, seconds: float) -> str:
    """What more there is to say of a server that answers as none of Ray's: that the address asks for TLS and it has none, or the reverse.

    "" where that is not so, or cannot be seen. `name` is the variable that holds the address, `seconds` are waited for each part of it.
    """
    parts = urlsplit(at)
    secure = parts.scheme == "https"
    if speaks_tls(str(parts.hostname), parts.port or (443 if secure else 80), seconds) is not (not secure):
        return ""
    instead = urlunsplit(parts._replace(scheme="http" if secure else "https"))
    found = "speaks no TLS, which https:// asks for" if secure else "speaks TLS, which http:// does not ask for"
    return f"; what listens there {found}: {name}={instead} may do"


def speaks_tls(host: str, port: int, seconds: float) -> bool | None:
    """Whether a server shakes hands as TLS does, with whatever certificate; None where it takes no connection, ends it, or says nothing."""
    lenient = ssl.create_default_context()
    lenient.check_hostname, lenient.verify_mode = False, ssl.CERT_NONE  # nothing is sent: who it is does not matter here
    try:
        with socket.create_connection((host, port), seconds) as plain, lenient.wrap_socket(plain, server_hostname=host):
            return True
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        return None
    except ssl.SSLError:
        return False
    except OSError:
        return None
