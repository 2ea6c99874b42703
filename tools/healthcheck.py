"""Whether the daemon of this container answers: exit code 0 if it does; for the image's HEALTHCHECK.

Needs the standard library only. Asks `/livez` on loopback, at the port of RECONCILER_LISTEN; sends no secret,
so a certificate, which is for another name than loopback's, is not checked.
"""

import http.client
import os
import ssl
import sys
import urllib.request

TIMEOUT_S = 2.0


def answers(url: str) -> bool:
    """Whether somebody answers there with a success."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(url, timeout=TIMEOUT_S) as response:
            return bool(response.status == 200)
    except (OSError, ValueError, http.client.HTTPException):
        return False


def main() -> int:
    """Ask without TLS, then with it."""
    host, _, port = os.environ.get("RECONCILER_LISTEN", "127.0.0.1:8080").rpartition(":")
    everywhere = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
    address = f"{everywhere.get(host, host)}:{port}"
    return 0 if any(answers(f"{scheme}://{address}/livez") for scheme in ("http", "https")) else 1


if __name__ == "__main__":
    sys.exit(main())
