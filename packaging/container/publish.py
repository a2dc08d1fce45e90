"""Put a join token, read from standard input, into the Secret $ROTA_JOIN_SECRET: each agent under its name.

The pod's own account is asked, which may change that Secret and nothing else. Exit status 1: not done, with
a line that says why.
"""

import base64
import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path(os.environ.get("ROTA_ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))


def main() -> int:
    """Do it; return the exit status."""
    token, name = sys.stdin.read().split(), sys.argv[1]
    if not token:
        return 1
    secret = os.environ["ROTA_JOIN_SECRET"]
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    namespace = (ACCOUNT / "namespace").read_text()
    data = {"data": {name: base64.b64encode(token[0].encode()).decode()}}
    request = urllib.request.Request(
        f"https://{f'[{host}]' if ':' in host else host}:{port}/api/v1/namespaces/{namespace}/secrets/{secret}",
        method="PATCH",
        data=json.dumps(data).encode(),
        headers={
            "Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}",
            "Content-Type": "application/merge-patch+json",
        },
    )
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    try:
        urllib.request.urlopen(request, timeout=10, context=context).close()  # noqa: S310 - https, as above
    except (urllib.error.URLError, OSError) as error:
        print(f"start: cannot put a join token into the Secret {secret}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
