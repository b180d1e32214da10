#!/bin/sh
# Writes the secrets that compose.yaml names into docker/secrets: random ones, and none that is there already.
set -eu
cd "$(dirname "$0")"
umask 022
# Nobody else passes the folder; the files in it are read by the containers' own users.
mkdir -p secrets
chmod 700 secrets

random() {
    head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'
}

keep() {
    if [ -e "secrets/$1" ]; then
        echo "kept secrets/$1"
    else
        printf '%s\n' "$2" >"secrets/$1"
        echo "made secrets/$1"
    fi
}

keep admin_key "$(random)"
keep api_key "$(random)"
keep grafana_password "$(random)"

# Two sides of one password: both are made, or none.
if [ ! -e secrets/redis_users ] || [ ! -e secrets/config_store ]; then
    rm -f secrets/redis_users secrets/config_store
    password=$(random)
    # Without a login, nothing but a ping; with it, the service's own keys only.
    keep redis_users "user default on nopass resetkeys resetchannels -@all +ping
user dvt on >$password resetchannels ~dvt:* -@all +@connection +@read +@write +@transaction -@dangerous"
    keep config_store "redis://dvt:$password@redis:6379/0"
fi
