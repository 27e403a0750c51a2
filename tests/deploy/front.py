"""nginx as deploy/ has it, before processes of the service. Only addresses and certificates are changed."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.deploy.files import text
from tests.faults.processes import ServiceProcess

PROGRAM = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@dataclass(frozen=True, slots=True)
class Front:
    """nginx, whom it stands before, and how a client trusts it."""

    base: str
    replicas: Sequence[ServiceProcess]
    trust: ssl.SSLContext
    log: Path

    def lines(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def certificate(folder: Path) -> None:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1)
    )
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    made = builder.sign(key, hashes.SHA256())
    (folder / "tls.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "tls.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))


def configured(folder: Path, replicas: Sequence[ServiceProcess], port: int) -> str:
    """The file with these addresses, and in the folder whatever is written."""
    named = re.compile(r"( *server )checkin-a:8080(.*\n).*checkin-b:8080.*\n")
    servers = "".join(rf"\g<1>127.0.0.1:{replica.port}\2" for replica in replicas)
    config = named.sub(servers, text("nginx/nginx.conf"))
    config = config.replace("/run/secrets/tls_certificate", f"{folder}/tls.crt")
    config = config.replace("/run/secrets/tls_key", f"{folder}/tls.key")
    config = config.replace("listen 8443 ssl", f"listen 127.0.0.1:{port} ssl")
    config = config.replace("/tmp/nginx", f"{folder}/nginx")
    config = config.replace("/dev/stdout", f"{folder}/access.log").replace(
        "/dev/stderr", f"{folder}/error.log"
    )
    if not _knows_http2():
        config = config.replace("        http2 on;\n", "")
    return config


def _plain(config: str) -> str:
    return re.sub(r" *(?:ssl_|http2 ).*\n|(?<=\d) ssl(?=;)", "", config)


def _knows_http2() -> bool:
    """nginx 1.25.1 and newer have it as a directive of its own."""
    told = subprocess.run([str(PROGRAM), "-v"], capture_output=True, text=True, check=True).stderr
    major, minor = re.findall(r"nginx/(\d+)\.(\d+)", told)[0]
    return (int(major), int(minor)) >= (1, 26)


@asynccontextmanager
async def nginx_before(
    folder: Path, replicas: Sequence[ServiceProcess], buffering: str = "off", *, tls: bool = True
) -> AsyncIterator[Front]:
    certificate(folder)
    port = _free_port()
    config = folder / "nginx.conf"
    wanted = f"proxy_request_buffering {buffering};"
    written = configured(folder, replicas, port).replace("proxy_request_buffering off;", wanted)
    config.write_text(written if tls else _plain(written))
    command = [str(PROGRAM), "-c", str(config), "-p", str(folder), "-e", f"{folder}/error.log"]
    tested = await asyncio.to_thread(
        subprocess.run, [*command, "-t"], capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stderr
    process = await asyncio.create_subprocess_exec(*command, "-g", "daemon off;")
    trust = ssl.create_default_context(cafile=str(folder / "tls.crt"))
    try:
        await _listens(port)
        yield Front(f"http{'s' * tls}://localhost:{port}", replicas, trust, folder / "access.log")
    finally:
        process.send_signal(signal.SIGQUIT)
        await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _listens(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
