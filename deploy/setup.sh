#!/bin/sh
# Makes the passwords and keys that compose.yaml mounts, once; what is there already stays.
set -eu
cd "$(dirname "$0")"
compose=${COMPOSE:-docker compose}
keys=/var/lib/moodal/api_keys

# Each container reads with a number of its own, so files are open to all, and the folder is not.
mkdir -p secrets models
chmod 700 secrets
umask 022

password() {
    [ -s "secrets/$1" ] || head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >"secrets/$1"
}

key() {
    # Some engines say more than the container does.
    $compose run --rm --no-deps -T moodal keys add "$keys" "$1" | grep '^moodal_'
}

password postgres_password
password grafana_password
[ -s secrets/pg_service ] || cat >secrets/pg_service <<END
[moodal]
host=db
dbname=moodal
user=moodal
password=$(cat secrets/postgres_password)
END

if [ ! -s secrets/metrics_key ]; then
    key prometheus >secrets/metrics_key.new
    mv secrets/metrics_key.new secrets/metrics_key
    echo "Your API key, which is shown this once:"
    key "${1:-admin}"
fi
echo "Grafana: user admin, password in deploy/secrets/grafana_password"
