"""The API by TLS, as customers' clients speak it, and its certificate while it changes."""

import pathlib
import ssl
import subprocess
from collections.abc import Callable

import httpx
import openai
import pytest

from e2e import programs
from e2e.vectors import MODEL
from stack.description import Stack
from stack.native import GATEWAY, NativeStack
from stack.waiting import wait_until

StartNative = Callable[..., NativeStack]
LIMIT_S = 15


class Certificate:
    """A certificate for this machine, signed by itself, in files that are replaced by renaming."""

    def __init__(self, folder: pathlib.Path) -> None:
        programs.need("openssl", "TLS is")
        folder.mkdir()
        self.path, self.key_path = folder / "tls.crt", folder / "tls.key"
        self.renew()

    def renew(self) -> None:
        """Put a new pair in the place of the one that is there."""
        fresh = {path: path.with_suffix(path.suffix + ".new") for path in (self.path, self.key_path)}
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=gateway"]
        command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        command += ["-out", str(fresh[self.path]), "-keyout", str(fresh[self.key_path])]
        subprocess.run(command, check=True, capture_output=True)
        for path, new in fresh.items():
            new.replace(path)

    @property
    def settings(self) -> dict[str, str]:
        return {"tls-certificate-file": str(self.path), "tls-key-file": str(self.key_path)}

    def trusted(self) -> ssl.SSLContext:
        """Trust in what is in the file now, and in nothing else."""
        return ssl.create_default_context(cafile=str(self.path))


@pytest.fixture
def certificate(tmp_path: pathlib.Path) -> Certificate:
    return Certificate(tmp_path / "certificate")


def connect(stack: Stack, trusted: ssl.SSLContext) -> openai.OpenAI:
    http = openai.DefaultHttpxClient(verify=trusted)
    return openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.keys["acme"], max_retries=0, http_client=http)


def embed(client: openai.OpenAI) -> int:
    """The dimensions of a vector."""
    return len(client.embeddings.create(model=MODEL, input="a text").data[0].embedding)


def test_the_official_client_speaks_tls_and_trusts_a_renewed_certificate(
    start_native: StartNative, certificate: Certificate
) -> None:
    native = start_native(gateway=certificate.settings)
    stack = native.describe()
    assert stack.url.startswith("https://")
    with connect(stack, certificate.trusted()) as kept:
        assert embed(kept) == 384
        certificate.renew()

        def renewed() -> bool:
            try:
                return httpx.get(f"{stack.url}/livez", verify=certificate.trusted()).status_code == 200
            except httpx.ConnectError:
                return False

        wait_until("the new certificate", renewed, LIMIT_S)
        assert embed(kept) == 384  # its connection is still there
    with connect(stack, certificate.trusted()) as fresh:
        assert embed(fresh) == 384
    healthy = [str(GATEWAY), "healthcheck", "--metrics-address", native.addresses["gateway_metrics"]]
    assert subprocess.run(healthy, check=False).returncode == 0


def test_curl_speaks_http2(start_native: StartNative, certificate: Certificate) -> None:
    programs.need("curl", "HTTP/2 is")
    if "HTTP2" not in subprocess.run(["curl", "--version"], check=True, capture_output=True, text=True).stdout:
        pytest.skip("LOUD: this curl has no HTTP/2: it is NOT tested with one")
    stack = start_native(gateway=certificate.settings).describe()
    command = ["curl", "-sS", "--http2", "--cacert", str(certificate.path), "-o", "/dev/null"]
    command += ["-w", "%{http_version} %{http_code}", f"{stack.url}/v1/models"]
    command += ["-H", f"Authorization: Bearer {stack.keys['acme']}"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "2 200"
