#!/usr/bin/env bash
# Gradescope runs this once, as root, when the autograder is built: programs, then the course's Python packages.
#
# What is there already is not installed again. LAB_AUTOGRADER is for trying this elsewhere (default: /autograder).
set -euo pipefail
source=${LAB_AUTOGRADER:-/autograder}/source

new_enough() { "$1" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; }

packages=()
for program in git bwrap; do
    command -v "$program" > /dev/null || packages+=("${program/bwrap/bubblewrap}")
done
if ! new_enough python3 && ! new_enough python3.11; then
    packages+=(python3 python3-venv)
fi
if grep -q '"labs".*\b6\b' "$source/settings.json" && [ ! -x /usr/sbin/rabbitmq-server ]; then
    # The package would start a node of its own, which nobody needs, and which would listen on every address.
    [ -e /usr/sbin/policy-rc.d ] || printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    packages+=(rabbitmq-server)
fi
if [ ${#packages[@]} -gt 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update
    apt-get install --yes --no-install-recommends "${packages[@]}"
    new_enough python3 || apt-get install --yes --no-install-recommends python3.11 python3.11-venv
fi
python3 "$source/course/lab" --help > /dev/null   # makes course/.venv
