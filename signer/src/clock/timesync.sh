#!/bin/sh
# Sets this machine's clock from the last time hint of the frontend. Written by the signer, run
# by a person: compare with a watch before you agree. See hsm-docs/time-visit.md.
#
#   sh timesync.sh            show the step, ask, then set the clock
#   sh timesync.sh --print    only show the step
#   sh timesync.sh --yes      set the clock without asking
set -eu

hint_ms=@HINT_MS@             # the frontend's clock when the hint arrived, ms since 1970
boot_ms=@BOOT_MS@             # this machine's boot clock at that moment, ms
boot_id='@BOOT_ID@'
synchronised=@SYNCHRONISED@   # does the frontend's clock call itself synchronised (NTP)?
round_trip_us=@ROUND_TRIP_US@ # half of it is already added to the hint
age_max_s=3600                # an older hint has drifted, and the frontend sends one every 10 s

die() { echo "timesync.sh: $*" >&2; exit 1; }

[ "$(cat /proc/sys/kernel/random/boot_id)" = "$boot_id" ] ||
    die "the machine was restarted since the hint; let the frontend connect, then run this again"
# /proc/uptime counts in hundredths of a second: "12345.67 ...".
read -r uptime _ </proc/uptime
now_boot_ms=$(( ${uptime%.*} * 1000 + 1${uptime#*.} * 10 - 1000 ))
age_ms=$(( now_boot_ms - boot_ms ))
[ "$age_ms" -lt $(( age_max_s * 1000 )) ] ||
    die "the hint is $(( age_ms / 60000 )) minutes old; let the frontend connect, then run this again"

target_ms=$(( hint_ms + age_ms ))
now_ms=$(date +%s%3N)
step_ms=$(( target_ms - now_ms ))
sign=+; absolute_ms=$step_ms
[ "$step_ms" -ge 0 ] || { sign=-; absolute_ms=$(( -step_ms )); }
target=$(printf '%d.%03d' $(( target_ms / 1000 )) $(( target_ms % 1000 )))

echo "this machine:   $(date -u '+%Y-%m-%d %H:%M:%S UTC')"
echo "the frontend:   $(date -u -d "@$target" '+%Y-%m-%d %H:%M:%S UTC') (hint $(( age_ms / 1000 )) s old, synchronised: $synchronised, round trip $round_trip_us us)"
echo "step:           $sign$(( absolute_ms / 1000 )).$(printf '%03d' $(( absolute_ms % 1000 ))) s"

case "${1:-}" in
--print) exit 0 ;;
--yes) ;;
'') printf 'Does your watch agree with the frontend? Type yes to set the clock: '
    read -r answer
    [ "$answer" = yes ] || die "nothing was changed" ;;
*) die "unknown option $1; use --print or --yes" ;;
esac

# The question took time: compute the target again.
read -r uptime _ </proc/uptime
now_boot_ms=$(( ${uptime%.*} * 1000 + 1${uptime#*.} * 10 - 1000 ))
target_ms=$(( hint_ms + now_boot_ms - boot_ms ))
date -u -s "@$(printf '%d.%03d' $(( target_ms / 1000 )) $(( target_ms % 1000 )))" >/dev/null ||
    die "the clock could not be set; run this as root"
if command -v hwclock >/dev/null 2>&1; then
    hwclock --systohc --utc || die "the clock is set, but not the hardware clock"
fi
echo "the clock is set to $(date -u '+%Y-%m-%d %H:%M:%S UTC')"
