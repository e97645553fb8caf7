#!/bin/sh
# The unit is one that systemd accepts (Debian 12's is 252) and keeps its hardening.
# usage: systemd.sh UNIT BINARY; BINARY stands in for the installed programs.
set -eu

if ! command -v systemd-analyze >/dev/null; then
    echo "skipped: systemd-analyze is not installed"
    exit 77
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
unit=$dir/cosockd.service
sed "s#/usr/bin/cosock[a-z]*#$2#" "$1" >"$unit"

fail()
{
    echo "$1:"
    cat "$dir/out"
    exit 1
}

# verify prints unknown keys as warnings and still succeeds: any line about the unit is a failure.
systemd-analyze verify --man=no "$unit" >"$dir/out" 2>&1 || fail "systemd-analyze verify"
! grep -q 'cosockd\.service' "$dir/out" || fail "systemd-analyze verify has remarks"

# 16 of 100 when this was written; 25 leaves room for newer checks, not for losing a setting.
systemd-analyze security --offline=true --threshold=25 --no-pager "$unit" >"$dir/out" 2>&1 ||
    fail "systemd-analyze security"
tail -n 1 "$dir/out"
