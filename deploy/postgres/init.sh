#!/bin/sh
# Run by PostgreSQL's image on an empty disk: the roles and the database of /opt/roles.sql, with mounted passwords.
set -eu
exec psql --username=postgres --set=ON_ERROR_STOP=1 \
    --set=owner="$(cat /run/secrets/owner_password)" \
    --set=service="$(cat /run/secrets/service_password)" \
    --set=auditor="$(cat /run/secrets/auditor_password)" \
    --file=/opt/roles.sql
