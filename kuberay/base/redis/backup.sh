#!/bin/sh
# Writes a copy of the append-only files to stdout, as a tar archive that restore.sh takes:
#
#   kubectl -n chimera-system exec chimera-redis-0 -- sh /etc/redis/conf/backup.sh >redis.tar
#
# Redis goes on meanwhile. It is told to rewrite nothing, so that no file is taken away while it is copied; what is written
# while it is copied may be cut off, as it would be by a crash at that moment.
set -eu
data=${REDIS_DATA:-/data}
REDISCLI_AUTH=$(cat "${REDIS_PASSWORD_FILE:-/etc/redis/users/password}")
export REDISCLI_AUTH
host=127.0.0.1
set --
if [ -n "${REDIS_TLS_CA:-}" ]; then
    # By the name that is in its certificate.
    host=chimera-redis.chimera-system.svc
    set -- --tls --cacert "$REDIS_TLS_CA"
fi
# -e: an answer that is an error is one.
set -- -e -h "$host" -p "${REDIS_PORT:-6379}" --no-auth-warning --raw "$@"

was=$(redis-cli "$@" CONFIG GET auto-aof-rewrite-percentage)
was=$(printf '%s\n' "$was" | tail -n 1)
trap 'redis-cli "$@" CONFIG SET auto-aof-rewrite-percentage "$was" >/dev/null' EXIT
redis-cli "$@" CONFIG SET auto-aof-rewrite-percentage 0 >/dev/null
while redis-cli "$@" INFO persistence | grep -q '^aof_rewrite_in_progress:1'; do sleep 1; done
# 1: a file grew while it was read, which is what a file that is written does. Anything else is a failure.
tar -C "$data" -cf - appendonlydir || [ $? = 1 ]
