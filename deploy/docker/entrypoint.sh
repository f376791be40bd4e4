#!/bin/sh
# Secrets arrive as files, and programs read variables: export each secret that has the name of a variable.
set -eu
for file in /run/secrets/[A-Z]*; do
  [ -f "$file" ] && export "${file##*/}=$(cat "$file")"
done
exec "$@"
