# Installs Debian packages for the launcher, as root. The system's own services
# of these packages are neither started now nor at the next boot, and PostgreSQL
# makes no cluster of its own.
set -e
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

policy=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.d/hapax-servers.conf
trap 'rm -f "$cluster"; [ -z "$own_policy" ] || rm -f "$policy"' EXIT
if [ ! -e "$policy" ]; then
	own_policy=1
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi
mkdir -p "${cluster%/*}"
echo 'create_main_cluster = false' >"$cluster"

installed() { dpkg-query -W -f '${db:Status-Abbrev} ${binary:Package}\n' | sed -n 's/^ii  *//p' | sort; }
before=$(installed)
install() { apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"; }
if [ -z "$(apt-cache policy "$@" | grep 'Candidate: [0-9]')" ]; then
	apt-get -q update
fi
# A package list that is older than the mirror names files that are gone.
install "$@" || { apt-get -q update && install "$@"; }

if command -v systemctl >/dev/null; then
	for package in $(installed); do
		echo "$before" | grep -qx "$package" && continue
		dpkg -L "$package" | sed -n 's,^\(/usr\)\?/lib/systemd/system/\([^/@]*\.\(service\|socket\)\)$,\2,p' |
			xargs -r systemctl disable --quiet 2>/dev/null || true
	done
fi
