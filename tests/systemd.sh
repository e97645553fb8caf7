#!/bin/sh
# The files for systemd are ones that it accepts (Debian 12's is 252), and the unit keeps its hardening.
# usage: systemd.sh FOLDER BINARY; BINARY stands in for the installed programs.
set -eu

if ! command -v systemd-analyze >/dev/null; then
    echo "skipped: systemd-analyze is not installed"
    exit 77
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for unit in cosockd.service cosockd.socket; do
    sed "s#/usr/bin/cosock[a-z]*#$2#" "$1/$unit" >"$dir/$unit"
done

fail()
{
    echo "$1:"
    cat "$dir/out"
    exit 1
}

# verify prints unknown keys as warnings and still succeeds: any line about the units is a failure.
systemd-analyze verify --man=no "$dir/cosockd.service" "$dir/cosockd.socket" >"$dir/out" 2>&1 ||
    fail "systemd-analyze verify"
! grep -q 'cosockd\.s' "$dir/out" || fail "systemd-analyze verify has remarks"

# 16 of 100 when this was written; 25 leaves room for newer checks, not for losing a setting.
systemd-analyze security --offline=true --threshold=25 --no-pager "$dir/cosockd.service" >"$dir/out" 2>&1 ||
    fail "systemd-analyze security"
tail -n 1 "$dir/out"

# Listeners in the fd store must come back, and Unix sockets keep their files meanwhile.
for setting in Type=notify FileDescriptorStoreMax= RuntimeDirectoryPreserve=restart WatchdogSec=; do
    grep "^$setting" "$dir/cosockd.service" >"$dir/out" || fail "cosockd.service lacks $setting"
done

if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers --dry-run --root="$dir" - <"$1/sysusers.conf" >"$dir/out" 2>&1 ||
         fail "systemd-sysusers"
    grep -q "cosockd" "$dir/out" || fail "systemd-sysusers makes no user"
fi

# Every key, also one in a comment, is one that the kernel has.
sed -n 's/^#* *\(net\.[a-z0-9_.]*\) *= .*/\1/p' "$1/sysctl.conf" >"$dir/keys"
[ -s "$dir/keys" ] || { echo "no keys in sysctl.conf"; exit 1; }
while read -r key; do
    [ -e "/proc/sys/$(echo "$key" | tr . /)" ] || { echo "sysctl.conf: the kernel has no $key"; exit 1; }
done <"$dir/keys"
