"""The embedded Valkey 9: starts empty, writes nothing to disk, forgets what is least used when full."""

import secrets
import signal
from functools import partial
from pathlib import Path
from urllib.parse import quote

import redis

from checkin_service.adapters.embedded.place import Place
from checkin_service.adapters.embedded.programs import valkey_program
from checkin_service.adapters.embedded.server import Server, launch

CONFIGURATION = """\
port 0
unixsocket "{socket}"
unixsocketperm 700
requirepass {password}
dir "{run_dir}"
save ""
appendonly no
maxmemory 64mb
maxmemory-policy allkeys-lru
"""


def launch_valkey(place: Place, password: str | None = None) -> Server:
    """Start Valkey with this password, or one made for this run. Raises `EmbeddedError`, `OSError`."""
    program = valkey_program(place)
    socket, log = place.run_dir / "valkey", place.data_dir / "valkey.log"
    password = password or secrets.token_hex(16)
    # On standard input: a command line is everybody's to read.
    given = CONFIGURATION.format(socket=socket, password=password, run_dir=place.run_dir).encode()
    process = launch(program, ["-"], place, log, signal.SIGTERM, given)
    url = f"unix://:{password}@{quote(str(socket), safe='/')}"
    return Server("Valkey", url, process, log, signal.SIGTERM, partial(_complaint, url, socket))


def _complaint(url: str, socket: Path) -> str | None:
    if not socket.exists():
        return "no socket yet"
    try:
        with redis.Redis.from_url(url, socket_timeout=10) as client:
            client.ping()
    except redis.RedisError as error:
        return str(error)
    return None
