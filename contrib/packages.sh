# shellcheck shell=bash disable=SC2034
# packages.sh: which Debian packages Belay needs, and how the missing ones are installed.  Sourced by contrib/quickstart.sh
# and tests/run.sh; the lists stand here alone.

belay_build_packages="gcc libc6-dev make autoconf automake pkg-config libevent-dev libssl-dev libjwt-dev libjansson-dev
	libsqlite3-dev libconfig-dev zlib1g-dev libcurl4-openssl-dev"
belay_test_packages="libcmocka-dev mandoc git sqlite3 openssl curl haproxy procps python3 python3-pytest
	python3-pytest-asyncio python3-pytest-xdist python3-websockets python3-aiohttp python3-jwt python3-cryptography
	python3-jsonschema prometheus systemd node-typescript"

# Prints those of the packages given that are not installed.
belay_missing_packages() {
	local package
	for package; do
		[[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || echo "$package"
	done
}

# Installs those of the packages given that are missing, as root or with sudo.  Quick and silent when none is.
belay_install_packages() {
	local missing as_root=()
	if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
		echo "This is no Debian: have the counterparts of these installed: $*" | tr -s '[:space:]' ' ' && echo
		return 0
	fi
	mapfile -t missing < <(belay_missing_packages "$@")
	((${#missing[@]})) || return 0
	echo "Installing: ${missing[*]}"
	if ((EUID != 0)); then
		if ! command -v sudo >/dev/null; then
			echo "These packages are missing, and neither root nor sudo is at hand. As root:" >&2
			echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
			return 1
		fi
		as_root=(sudo)
	fi
	# The names may be known already; a list of packages that is missing or old is fetched once.
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" \
		>/dev/null 2>&1 </dev/null && return 0
	"${as_root[@]}" apt-get update -qq </dev/null &&
		"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" \
			>/dev/null </dev/null
}
