#!/bin/sh
# Make .env out of .env.example, with random passwords, unless there is one.   Run: sh .devcontainer/passwords.sh
set -eu
cd "$(dirname "$0")/.."
[ ! -e .env ] || exit 0
umask 077
while IFS= read -r line; do
  case $line in *_PASSWORD=) line=$line$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n') ;; esac
  printf '%s\n' "$line"
done <.env.example >.env.new
mv .env.new .env
echo "Two passwords were written to .env; it also says which URLs they make." >&2
