"""What stands before several processes: nginx as deploy/ has it where there is one, else the tests' own balancer, which
runs within the generator."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from tests.deploy.front import PROGRAM, nginx_before
from tests.embedded.temporary import temporary_data_dir
from tests.faults.balancer import balancing
from tests.faults.processes import ServiceProcess

NAME = (
    "nginx, by deploy/nginx without TLS" if PROGRAM else "the tests' own balancer, for there is no nginx here"
)


@asynccontextmanager
async def in_front(running: Sequence[ServiceProcess]) -> AsyncIterator[str]:
    """Its address, once every process is ready."""
    async with balancing(running) as (base, _):
        if not PROGRAM:
            yield base
            return
    with temporary_data_dir() as folder:
        # nginx's workers are nobody when this is root
        folder.chmod(0o777)
        async with nginx_before(folder, running, tls=False) as front:
            yield front.base


def port_of(base: str) -> int:
    port = urlsplit(base).port
    assert port is not None
    return port
