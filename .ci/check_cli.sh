#!/usr/bin/env bash
# Check an installed `imgpipeline` command, given by its path, where nothing of the project but the wheel is there.
set -euo pipefail
imgpipeline=$1

fail() { printf 'check_cli: %s\n' "$1" >&2; exit 1; }

for name in $(compgen -e IMGPIPELINE_ || true) $(compgen -e KAFKA_ || true) $(compgen -e AWS_ || true); do
  unset "$name"
done

"$imgpipeline" --version
"$imgpipeline" models list
"$imgpipeline" models list --json | python3 -m json.tool >/dev/null || fail "models list --json is no JSON document"

# Nothing runs here: doctor has to say so, name a setting, and end with status 1.
status=0
report=$("$imgpipeline" doctor 2>&1 </dev/null) || status=$?
printf '%s\n' "$report"
[ "$status" -eq 1 ] || fail "doctor ended with status $status where nothing runs, expected 1"
case $report in
  *Traceback*) fail "doctor showed a traceback" ;;
  *IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS*) ;;
  *) fail "doctor did not name IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS" ;;
esac
echo "check_cli: ok"
