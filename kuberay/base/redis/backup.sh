#!/bin/sh
# Writes a copy of the append-only files to stdout, as a tar archive that restore.sh takes:
#
#   kubectl -n chimera-system exec chimera-redis-0 -- sh /etc/redis/conf/backup.sh >redis.tar
#
# Redis goes on meanwhile. It is told to rewrite nothing, so that no file is taken away while it is copied; what is written
# while it is copied may be cut off, as it would be by a crash at that moment. One at a time: a second one is refused. What
# redis.conf says of rewriting holds again when it ends, however it does; after a SIGKILL, when the next one ends.
set -eu
data=${REDIS_DATA:-/data}
rewrites=$(sed -n 's/^auto-aof-rewrite-percentage //p' "$(dirname "$0")/redis.conf")
# The kernel lets go of it with the last process that has it open.
exec 9>"$data/backup.lock"
if ! flock -n 9; then
    echo "backup: another one is under way; wait for its end" >&2
    exit 1
fi
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

copying=
restore() {
    if [ -n "$copying" ]; then kill "$copying" 2>/dev/null || true; fi
    redis-cli "$@" CONFIG SET auto-aof-rewrite-percentage "$rewrites" >/dev/null
}
trap 'restore "$@"' EXIT
# A shell that a signal ends runs no trap of its exit, one that exits does.
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
redis-cli "$@" CONFIG SET auto-aof-rewrite-percentage 0 >/dev/null
while redis-cli "$@" INFO persistence | grep -q '^aof_rewrite_in_progress:1'; do sleep 1; done
# Beside the shell, which hears no signal while it waits for what it runs itself.
tar -C "$data" -cf - appendonlydir &
copying=$!
ended=0
wait "$copying" || ended=$?
copying=
# 1: a file grew while it was read, which is what a file that is written does. Anything else is a failure.
[ "$ended" -le 1 ]
