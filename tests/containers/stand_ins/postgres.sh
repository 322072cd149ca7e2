#!/bin/sh
# As the official image's: root hands over to postgres; data that are missing are made with POSTGRES_PASSWORD and POSTGRES_DB.
set -eu
if [ "$(id -u)" = 0 ]; then
  chown postgres: "$PGDATA"
  chmod 700 "$PGDATA"
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  (umask 077 && printf '%s' "$POSTGRES_PASSWORD" > /tmp/password)
  initdb --username=postgres --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8
  rm /tmp/password
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  echo "listen_addresses = '*'" >> "$PGDATA/postgresql.conf"
  # On its socket alone, so that nobody takes it for ready.
  pg_ctl --wait --options="-c listen_addresses=''" start
  [ "${POSTGRES_DB:-postgres}" = postgres ] || createdb --username=postgres "$POSTGRES_DB"
  pg_ctl --wait --mode=fast stop
fi
exec "$@"
