#!/bin/sh
# /init of the initramfs: the root disk read-only below a layer in memory, the exchange disk on /mnt/out, then run.sh.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "/mod/$module.ko" || echo "insmod $module failed"; done < /mod/order
mount -t ext4 -o ro /dev/vda /ro || { echo "the root disk cannot be mounted"; ls /dev; echo o > /proc/sysrq-trigger; }
mount -t tmpfs tmpfs /rw
mkdir /rw/upper /rw/work
mount -t overlay -o lowerdir=/ro,upperdir=/rw/upper,workdir=/rw/work overlay /new
mkdir -p /new/mnt/out
mount -t ext4 /dev/vdb /new/mnt/out
for place in proc sys dev; do mount --move "/$place" "/new/$place"; done
exec switch_root /new /bin/sh /mnt/out/guest/run.sh
