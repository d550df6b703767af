#!/bin/sh
# Puts a copy that backup.sh made, from stdin, where Redis looks for it. Redis must not run. What is there is put aside as
# `appendonlydir.before`, and a second copy is refused until that is gone.
set -eu
data=${REDIS_DATA:-/data}
if [ -e "$data/appendonlydir.before" ]; then
    echo "restore: $data/appendonlydir.before is there already: look at it, then remove it" >&2
    exit 1
fi
rm -rf "$data/restoring"
mkdir "$data/restoring"
tar -C "$data/restoring" -xf -
if ! [ -s "$data/restoring/appendonlydir/appendonly.aof.manifest" ]; then
    echo "restore: this is no copy that backup.sh made: it has no appendonlydir/appendonly.aof.manifest" >&2
    exit 1
fi
if [ -e "$data/appendonlydir" ]; then mv "$data/appendonlydir" "$data/appendonlydir.before"; fi
mv "$data/restoring/appendonlydir" "$data/appendonlydir"
rmdir "$data/restoring"
echo "restore: done, $(du -sk "$data/appendonlydir" | cut -f1) KiB" >&2
