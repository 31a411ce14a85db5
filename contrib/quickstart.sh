#!/usr/bin/env bash
# quickstart.sh: from a bare checkout on Debian 12 to a door that opens.
#
#	contrib/quickstart.sh [--check] [--port PORT]
#
# Installs the packages that are missing (root or sudo), builds in ./build, starts belayd with settings, a secret and a database of
# its own in a private temporary folder, registers the device door-1, plays it, and sends it unlock_door.  Then it shows what
# to type to go on, and stays until Ctrl-C; the folder is removed at the end.  With --check it ends at once, with status 0
# only if the device confirmed the command.  Nothing is written outside ./build and the temporary folder.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
top=$PWD build=$PWD/build
. contrib/packages.sh

check='' port='' dir='' belayd='' sim=''
while (($#)); do
	case $1 in
	--check) check=1 ;;
	--port) port=${2:?--port needs a number}; shift ;;
	-h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
	*) echo "quickstart.sh: $1 is not known; --help says what is" >&2; exit 64 ;;
	esac
	shift
done

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[[ -t 1 ]] || say() { printf '\n%s\n' "$*"; }

die() {
	echo "quickstart.sh: $*" >&2
	if [[ -n $dir && -s $dir/belayd.log ]]; then
		echo "The end of belayd's log:" >&2
		tail -n 20 "$dir/belayd.log" >&2
	fi
	exit 1
}

finish() {
	local status=$?
	trap - EXIT INT TERM
	[[ -z $sim ]] || kill "$sim" 2>/dev/null || true
	if [[ -n $belayd ]]; then
		kill -TERM "$belayd" 2>/dev/null || true
		wait "$belayd" 2>/dev/null || true
	fi
	[[ -z $sim ]] || wait "$sim" 2>/dev/null || true
	[[ -z $dir ]] || rm -rf "$dir"
	exit "$status"
}
trap finish EXIT
trap 'exit 0' INT
trap 'exit 143' TERM

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() {
	local p
	for ((p = $1; p < $1 + 100; p++)); do
		listening "$p" || { echo "$p"; return; }
	done
	return 1
}

# shellcheck disable=SC2086
belay_install_packages $belay_build_packages

say "Building in ./build"
[[ -x configure && ! configure.ac -nt configure ]] || ./bootstrap >/dev/null
mkdir -p "$build"
if [[ ! -f $build/Makefile || configure -nt $build/config.status ]]; then
	(cd "$build" && "$top/configure" --quiet)
fi
make -C "$build" -s -j"$(nproc)" belayd belayctl

# Everything of this run: readable for this user alone, and gone at its end.
umask 077
dir=$(mktemp -d "${TMPDIR:-/tmp}/belay-quickstart.XXXXXX")
head -c 48 /dev/urandom | base64 -w 0 >"$dir/secret"
if [[ -n $port ]]; then
	! listening "$port" || die "port $port is taken"
else
	port=$(free_port 3000) || die "no free port from 3000 on"
fi
cat >"$dir/belayd.conf" <<END
server: { listen = ["127.0.0.1:$port"]; run_dir = "$dir"; instance = "quickstart"; };
auth:   { jwt_secret_file = "$dir/secret"; };
store:  { url = "sqlite://$dir/belay.db"; };
END

say "Starting belayd on port $port"
"$build/belayd" -t -c "$dir/belayd.conf" || die "the settings are at fault"
# Its own process group, so that Ctrl-C reaches this script alone, which then stops it.
set -m
"$build/belayd" -f -c "$dir/belayd.conf" >"$dir/belayd.log" 2>&1 </dev/null &
belayd=$!
set +m

ctl=("$build/belayctl" -c "$dir/belayd.conf" -u "http://127.0.0.1:$port")

# Ready means that clients are served and the store takes writes.
for ((i = 0; ; i++)); do
	kill -0 "$belayd" 2>/dev/null || die "belayd ended"
	[[ $( (exec 3<>"/dev/tcp/127.0.0.1/$port" && printf 'GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3 &&
		head -n 1 <&3) 2>/dev/null) == *' 200 '* ]] && break
	((i < 100)) || die "belayd was not ready within 10 s"
	sleep 0.1
done

say "Registering the device door-1"
"${ctl[@]}" device add door-1 --owner demo --name "Front door" --quiet >"$dir/device-token" || die "door-1 could not be registered"
user_token=$("${ctl[@]}" token --user demo --ttl 12h) || die "no token"

say "Playing the device"
set -m
"${ctl[@]}" sim --device door-1 --token "@$dir/device-token" >"$dir/sim.log" 2>&1 </dev/null &
sim=$!
set +m

say "Sending unlock_door"
# It may wait for the device, which connects just now.
"${ctl[@]}" -U demo send door-1 unlock_door --queue 10s --wait >"$dir/sent" || { cat "$dir/sent" "$dir/sim.log" >&2; die "unlock_door failed"; }
cat "$dir/sent"
grep -q '"outcome": *"confirmed"' "$dir/sent" || die "the command was not confirmed"

if [[ -n $check ]]; then
	say "Works: the device confirmed the command."
	exit 0
fi

say "It works. To go on"
cat <<END
In the console of a browser:

  ws = new WebSocket("ws://127.0.0.1:$port/ws", ["belay.v1", "belay.token.$user_token"]); ws.onmessage = m => console.log(m.data)
  ws.send(JSON.stringify({type: "command", id: "1", payload: {deviceId: "door-1", command: "unlock_door"}}))

In another terminal:

  websocat "ws://127.0.0.1:$port/ws?token=$user_token"
  curl -H "Authorization: Bearer $user_token" http://127.0.0.1:$port/api/device
  curl -H "Authorization: Bearer $user_token" -H "Content-Type: application/json" \\
    -d '{"deviceId":"door-1","command":"unlock_door"}' 'http://127.0.0.1:$port/api/command?wait=1'
  build/belayctl -c $dir/belayd.conf -u http://127.0.0.1:$port tail

belayd's log: $dir/belayd.log.  Ctrl-C stops everything.
END
wait "$belayd" || true
die "belayd ended"
