#!/bin/sh
# Start the broker. The first time, create its storage with the SCRAM users, whose passwords are secrets. Later, password.sh
# changes them.
set -eu
settings=/site/kafka/server.properties
if [ ! -f /var/lib/kafka/site/data/meta.properties ]; then
  # The passwords are arguments for a few seconds, of a process that only this container shows.
  set --
  for file in /run/secrets/kafka_password_*; do
    set -- "$@" --add-scram "SCRAM-SHA-512=[name=${file##*kafka_password_},password=$(cat "$file")]"
  done
  /opt/kafka/bin/kafka-storage.sh format --config "$settings" --cluster-id "$(/opt/kafka/bin/kafka-storage.sh random-uuid)" "$@"
fi
exec /opt/kafka/bin/kafka-server-start.sh "$settings"
