#!/bin/sh
# Run by mmdebstrap on the finished root file system ($1): the kernel of that distribution and its headers.
# The image goes to $1/kernel, to be booted from outside. The headers (for BCC's own tools; tracectl needs none) are
# only unpacked: as packages they would bring a compiler with them.
set -eu
root=$1
mkdir -p "$root/kernel/debs" "$root/mnt/out"
# shellcheck disable=SC2016 # the inner shell expands it
chroot "$root" sh -euc '
  cd /kernel/debs
  image=$(apt-cache depends linux-image-cloud-amd64 | sed -n "s/.*Depends: \(linux-image-[^ ]*\)$/\1/p" | head -n 1)
  version=${image#linux-image-}
  headers=linux-headers-$version
  common=$(apt-cache depends "$headers" | sed -n "s/.*Depends: \(linux-headers-.*-common\)$/\1/p" | head -n 1)
  echo "$version" > /kernel/version
  apt-get -q download "$image" "$headers" "$common"
'
dpkg-deb -x "$root"/kernel/debs/linux-image-*.deb "$root/kernel/image"
for package in "$root"/kernel/debs/linux-headers-*.deb; do
  dpkg-deb -x "$package" "$root/kernel/headers"
done
cp -a "$root/kernel/headers/usr/." "$root/usr/"
if [ -d "$root/kernel/headers/lib" ]; then cp -a "$root/kernel/headers/lib/." "$root/usr/lib/"; fi
rm -rf "$root/kernel/headers" "$root/kernel/debs"
