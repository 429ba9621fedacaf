#!/bin/sh
# Process 1 of the guest: file systems, then every scenario with a time limit of its own, then the verdict.
# What a scenario leaves is in results/NAME: rc, log and its files. The verdict is written when all of them ran.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=/root
export PYTHONPATH=/mnt/out/code:/mnt/out/guest:/opt/site PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
for place in /tmp /run /dev/shm; do mkdir -p $place; mount -t tmpfs tmpfs $place; done
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mount -t bpf bpf /sys/fs/bpf
mkdir -p /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
while read -r name seconds; do
  folder=/mnt/out/results/$name
  mkdir -p "$folder"
  echo "tracectl-vm: $name begins at $(cut -d' ' -f1 /proc/uptime)"
  (cd "$folder" && timeout -k 5 "$seconds" python3 "/mnt/out/guest/$name.py" > log 2>&1; echo $? > rc)
  echo "tracectl-vm: $name ended at $(cut -d' ' -f1 /proc/uptime) with $(cat "$folder/rc")"
  sync
done < /mnt/out/scenarios
uname -r > /mnt/out/results/verdict
sync
echo o > /proc/sysrq-trigger
while :; do :; done # nothing here may need the disk any more
