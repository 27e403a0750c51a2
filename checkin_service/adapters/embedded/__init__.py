"""A real PostgreSQL and a real Valkey for development and tests, started and stopped by this process.

Everything that other modules need is here; `stores.py` shows the order of things.
"""

from checkin_service.adapters.embedded.account import Account, EmbeddedError, server_account
from checkin_service.adapters.embedded.place import claim_data_dir, reachable_data_dir
from checkin_service.adapters.embedded.postgres import as_role
from checkin_service.adapters.embedded.stores import EmbeddedStores, embedded_stores

__all__ = [
    "Account",
    "EmbeddedError",
    "EmbeddedStores",
    "as_role",
    "claim_data_dir",
    "embedded_stores",
    "reachable_data_dir",
    "server_account",
]
