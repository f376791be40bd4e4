#!/bin/sh
# Give an account of Kafka a new password, or add the account. In the folder of the site:
#   docker compose exec -T kafka sh /site/kafka/password.sh NAME < secrets/kafka_password_NAME
# The password is never an argument, which other processes could see. INTERNAL, the listener, has no login.
set -eu
umask 077
export KAFKA_HEAP_OPTS=-Xmx128m  # not the broker's, beside the broker, in the memory of one container
file=$(mktemp)
trap 'rm -f "$file"' EXIT
printf 'SCRAM-SHA-512=password=%s\n' "$(cat)" > "$file"
/opt/kafka/bin/kafka-configs.sh --bootstrap-server 127.0.0.1:9094 --alter --entity-type users --entity-name "$1" --add-config-file "$file"
