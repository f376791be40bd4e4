#!/bin/sh
# Start the S3 server. Its users are a secret; the rights of each are the bucket policies that setup.py puts.
set -eu
mkdir -p /tmp/users /var/lib/s3/data
cp /run/secrets/s3_users /tmp/users/users.json
ROOT_ACCESS_KEY=admin ROOT_SECRET_KEY=$(cat /run/secrets/s3_secret_admin)
export ROOT_ACCESS_KEY ROOT_SECRET_KEY
exec versitygw --port :7070 --health /health --keep-alive --quiet --iam-dir /tmp/users posix /var/lib/s3/data
