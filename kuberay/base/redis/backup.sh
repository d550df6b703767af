#!/bin/sh
# Writes a copy of the append-only files to stdout, as a tar archive that a Redis can start from:
#
#   kubectl -n chimera-system exec chimera-redis-0 -- sh /etc/redis/conf/backup.sh >redis.tar
#
# While it copies, Redis rewrites nothing, so that the files it copies stay; what is written meanwhile may be missing at the end,
# as it would after a crash.
set -eu
data=${REDIS_DATA:-/data}
REDISCLI_AUTH=$(cat "${REDIS_PASSWORD_FILE:-/etc/redis/users/password}")
export REDISCLI_AUTH

redis() { redis-cli -h 127.0.0.1 -p "${REDIS_PORT:-6379}" --no-auth-warning --raw "$@"; }

was=$(redis CONFIG GET auto-aof-rewrite-percentage | tail -n 1)
resume() { redis CONFIG SET auto-aof-rewrite-percentage "$was" >/dev/null; }
trap resume EXIT
redis CONFIG SET auto-aof-rewrite-percentage 0 >/dev/null
while redis INFO persistence | grep -q '^aof_rewrite_in_progress:1'; do sleep 1; done
# The file grows under tar, which says so and copies what it found at first: that is what is wanted.
tar -C "$data" -cf - appendonlydir || [ $? = 1 ]
