#!/usr/bin/env bash
# run.sh: measures belayd beside the floor (raw_epoll) and Node's ws, all on this machine.
#
#	tests/bench/run.sh [-r ROUNDS] [-s SECONDS] [echo|pipelined|fanout|connect|command|telemetry|hold|tenants|all]...
#
# The contestants take turns in one run, for ROUNDS (5) rounds of SECONDS (4) each, so that what else the machine does falls
# on all of them; what is printed are medians.  The first figure is CPU time of all processes of the server for one unit of
# work; README.md says what a unit is and how the ratios are to be read.
#
# Environment: TEST_BUILD (./build), WORKERS gateways of belayd (1, as the others have one process), CONNECTIONS of hold
# (10000), HOLD_SECONDS (65), RATE of command's open loop (half of what the slowest contestant reached before), TELEMETRY_RATE
# of telemetry's (5000), BEFORE: the build folder of another belayd, which takes part in telemetry.  Everything is started
# privately in a temporary folder and stopped by process id.  Each result line is kept in BUILD/bench.log.

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
top=$PWD
build=${TEST_BUILD:-${BELAY_BUILD:-$top/build}}
unset BELAY_BUILD		# belayd would take it for an option
bench=$build/tests/bench
rounds=5 seconds=4
workers=${WORKERS:-1} hold_connections=${CONNECTIONS:-10000} hold_seconds=${HOLD_SECONDS:-65} rate=${RATE:-}

die() { echo "run.sh: $*" >&2; exit 2; }
while getopts r:s:h option; do
	case $option in
	r) rounds=$OPTARG ;;
	s) seconds=$OPTARG ;;
	*) sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit $([[ $option == h ]] && echo 0 || echo 2) ;;
	esac
done
shift $((OPTIND - 1))
(($#)) || set -- all
[[ $* == all ]] && set -- echo pipelined fanout connect command telemetry hold tenants
for mode; do
	[[ $mode =~ ^(echo|pipelined|fanout|connect|command|telemetry|hold|tenants)$ ]] || die "there is no measurement $mode"
done
[[ -x $bench/bench_echo && -x $build/belayd ]] || die "run \"make bench\" first (looked in $build; TEST_BUILD names another)"

dir=$(mktemp -d "${TMPDIR:-/tmp}/belay-bench.XXXXXX")
running=()
# shellcheck disable=SC2329
finish() {
	trap - EXIT
	stop_all
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM

stop_all() {
	local pid
	for pid in "${running[@]}"; do kill "$pid" 2>/dev/null; done
	for pid in "${running[@]}"; do wait "$pid" 2>/dev/null; done
	running=()
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

next_port=$((21000 + RANDOM % 8000))
free_port() {
	while ((++next_port)); do listening "$next_port" || break; done
	port=$next_port
}

# serve NAME COMMAND...: starts it; PORT in the command stands for its port.  Sets port_of[NAME], pid_of[NAME].
declare -A port_of pid_of
serve() {
	local name=$1 i
	shift
	free_port
	"${@//PORT/$port}" >"$dir/$name.out" 2>"$dir/$name.log" </dev/null &
	pid_of[$name]=$! port_of[$name]=$port
	running+=($!)
	for ((i = 0; i < 100; i++)); do
		listening "$port" && return 0
		kill -0 "${pid_of[$name]}" 2>/dev/null || break
		sleep 0.1
	done
	cat "$dir/$name.log" >&2
	die "$name did not start"
}

# The peers' packages, once for each build.
node_ready=
peers() {
	local where=$build/bench-peers
	[[ -n $node_ready ]] && { [[ $node_ready == yes ]]; return; }
	node_ready=no
	command -v node >/dev/null || { echo "SKIPPED: Node's ws: node is not installed"; return 1; }
	if [[ ! -d $where/node_modules/ws || ! -d $where/node_modules/jsonwebtoken ]]; then
		command -v npm >/dev/null || { echo "SKIPPED: Node's ws: npm is not installed"; return 1; }
		mkdir -p "$where" && cp tests/bench/peers/package.json "$where/" &&
			(cd "$where" && npm install --no-audit --no-fund --ignore-scripts >npm.log 2>&1) ||
			{ echo "SKIPPED: Node's ws: npm install failed (see $where/npm.log)"; return 1; }
	fi
	export NODE_PATH=$where/node_modules
	echo "Node $(node --version), ws $(node -p 'require("ws/package.json").version')"
	node_ready=yes
}

# start_belayd [NAME [GATEWAYS [STORE [SETTING...]]]]: settings as -o takes them.
start_belayd() {
	local name=${1:-belayd} gateways=${2:-$workers}
	local store=${3:-sqlite://$dir/$name/belay.db}
	mkdir -p "$dir/$name"
	[[ -f $dir/secret ]] || head -c 48 /dev/urandom | base64 -w 0 >"$dir/secret"
	cat >"$dir/$name.conf" <<END
server: { run_dir = "$dir/$name"; workers = $gateways; echo = true; log_level = "warn"; };
auth:   { jwt_secret_file = "$dir/secret"; };
store:  { url = "$store"; };
limits: { commands_in_flight = 10000; ${limits:-message_rate = 1000000; message_burst = 1000000; requests_per_user = 0;} };
END
	serve "$name" "${program:-$build/belayd}" -f -c "$dir/$name.conf" -o server.listen=127.0.0.1:PORT "${@:4}"
}

# load PROGRAM NAME CONTESTANT ARGUMENT...: one measurement; its line goes to the results.
load() {
	local program=$1 name=$2 server=$3
	shift 3
	nice -n 0 "$bench/$program" --name "$name" --connect "127.0.0.1:${port_of[$server]}" \
		--server-pid "${pid_of[$server]}" "$@" >"$dir/line" 2>"$dir/error"
	if [[ $? != 0 ]]; then
		echo "FAILED: $program $name: $(cat "$dir/error")"
		failures=$((failures + 1))
		return
	fi
	cat "$dir/line" >>"$dir/results"
	cat "$dir/line" >>"$build/bench.log"
}

# table FIGURE UNIT: medians of the results, one line for each contestant.
table() {
	awk -v figure="$1" -v unit="$2" '
	function median(name, key,    list, n, i, j, t) {
		n = split(values[name, key], list, " ")
		for (i = 2; i <= n; i++) {
			t = list[i] + 0
			for (j = i - 1; j >= 1 && list[j] + 0 > t; j--) list[j + 1] = list[j]
			list[j + 1] = t
		}
		if (n == 0) return ""
		low = list[1]; high = list[n]
		return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
	}
	{
		name = ""
		for (i = 1; i <= NF; i++) {
			split($i, pair, "=")
			if (pair[1] == "name") name = pair[2]
		}
		if (!(name in seen)) { seen[name] = 1; order[++names] = name }
		for (i = 1; i <= NF; i++) {
			split($i, pair, "=")
			values[name, pair[1]] = values[name, pair[1]] " " pair[2]
		}
	}
	END {
		for (k = 1; k <= names; k++) {
			if (order[k] ~ /^floor/) floor = median(order[k], figure)
			if (order[k] ~ /^node/) peer = median(order[k], figure)
		}
		printf "%-18s %12s %22s %9s %9s %12s %10s %10s\n", "", unit, "(lowest to highest)", "x floor", "x peer", "per second", "p50 us", "p99 us"
		for (k = 1; k <= names; k++) {
			m = median(order[k], figure)
			range = sprintf("(%.4g to %.4g)", low, high)
			printf "%-18s %12.4g %22s %9s %9s %12s %10s %10s\n", order[k], m, range,
				(floor > 0 ? sprintf("%.2f", m / floor) : "-"), (peer > 0 ? sprintf("%.2f", m / peer) : "-"),
				median(order[k], "per_second"), median(order[k], "p50_us"), median(order[k], "p99_us")
		}
	}' "$dir/results"
}

# contest ROUNDS LOAD-ARGUMENTS... -- ...: each list between two "--" is one contestant; every round goes through all,
# every other one backwards.
contest() {
	local n=$1 i k words
	local -a entries=()
	shift
	words=
	for i in "$@" --; do
		if [[ $i == -- ]]; then
			[[ -n $words ]] && entries+=("$words")
			words=
		else
			words+=" $(printf '%q' "$i")"
		fi
	done
	: >"$dir/results"
	for ((k = 0; k < n; k++)); do
		for ((i = 0; i < ${#entries[@]}; i++)); do
			if ((k % 2)); then
				eval "load ${entries[${#entries[@]} - 1 - i]}"
			else
				eval "load ${entries[i]}"
			fi
		done
	done
}

mode_echo() {
	local depth=${1:-1} t=(--seconds "$seconds" --depth "${1:-1}")
	echo "connections 100, messages of 64 bytes, $depth on their way each; unit: a message there and back"
	serve floor "$bench/raw_epoll" --mode echo --port PORT --workers "$workers"
	start_belayd
	peers && serve node "$(command -v node)" tests/bench/peers/echo.js PORT
	contest "$rounds" bench_echo floor floor --raw "${t[@]}" -- bench_echo belayd belayd --target /echo "${t[@]}" \
		-- ${pid_of[node]:+bench_echo node-ws node "${t[@]}"}
	table server_cpu_us "CPU us"
}

mode_pipelined() { mode_echo 16; }

mode_fanout() {
	local n t
	serve floor "$bench/raw_epoll" --mode fanout --port PORT
	start_belayd
	peers && serve node "$(command -v node)" tests/bench/peers/fanout.js PORT
	for n in 1000 10000; do
		t=(--seconds "$seconds" --subscribers "$n")
		echo "one device's telemetry (200 bytes) to $n dashboards of its owner; unit: one delivery"
		contest "$rounds" bench_fanout floor floor "${t[@]}" -- \
			bench_fanout belayd belayd --secret-file "$dir/secret" "${t[@]}" \
			-- ${pid_of[node]:+bench_fanout node-ws node "${t[@]}"}
		table server_cpu_us "CPU us"
	done
}

mode_connect() {
	local t=(--seconds "$seconds") secret=(--secret-file "$dir/secret")
	echo "32 at once; unit: TCP, handshake, token checked, first message, close both ways"
	serve floor "$bench/raw_epoll" --mode echo --port PORT --workers "$workers"
	start_belayd
	peers && serve node "$(command -v node)" tests/bench/peers/jwt.js PORT "$dir/secret"
	contest "$rounds" bench_connect floor floor --raw "${t[@]}" -- \
		bench_connect belayd-new belayd "${secret[@]}" --users 20000 "${t[@]}" -- \
		bench_connect belayd-again belayd "${secret[@]}" --users 500 "${t[@]}" -- \
		bench_connect belayd-device belayd "${secret[@]}" --devices 500 "${t[@]}" \
		-- ${pid_of[node]:+bench_connect node-jwt node "${secret[@]}" --users 20000 "${t[@]}"}
	table server_cpu_us "CPU us"
}

# slowest FIGURE: the lowest of the contestants' medians, the floor's left out.
slowest() {
	table "$1" "" | awk 'NR > 1 && $1 !~ /^floor/ && (low == "" || $2 + 0 < low) { low = $2 + 0 } END { printf "%d", low }'
}

mode_command() {
	local t=(--seconds "$seconds" --controllers 10 --devices 100) secret=(--secret-file "$dir/secret") at=$rate
	serve floor "$bench/raw_epoll" --mode relay --port PORT
	start_belayd belayd
	start_belayd belayd-2 2
	start_belayd memory "$workers" memory:
	peers && serve node "$(command -v node)" tests/bench/peers/relay.js PORT
	echo "10 controllers, 100 devices, 26 commands on their way for each controller; unit: a command there and its result back"
	echo "(the floor passes bytes on; Node keeps commands in memory; belayd stores each before it is sent and again at its end:"
	echo "on disk with full synchronisation, with two gateways in belayd-2, or in memory: in belayd-mem)"
	contest "$rounds" bench_command floor floor --raw --in-flight 26 "${t[@]}" -- \
		bench_command belayd belayd "${secret[@]}" --in-flight 26 "${t[@]}" -- \
		bench_command belayd-2 belayd-2 "${secret[@]}" --in-flight 26 "${t[@]}" -- \
		bench_command belayd-mem memory "${secret[@]}" --in-flight 26 "${t[@]}" \
		-- ${pid_of[node]:+bench_command node-relay node --in-flight 26 "${t[@]}"}
	table server_cpu_us "CPU us"
	[[ -n $at ]] || at=$(($(slowest per_second) / 2))
	echo
	echo "the same at a fixed rate of $at a second (open loop; latency from when a command was due)"
	contest "$rounds" bench_command floor floor --raw --rate "$at" "${t[@]}" -- \
		bench_command belayd belayd "${secret[@]}" --rate "$at" "${t[@]}" -- \
		bench_command belayd-2 belayd-2 "${secret[@]}" --rate "$at" "${t[@]}" -- \
		bench_command belayd-mem memory "${secret[@]}" --rate "$at" "${t[@]}" \
		-- ${pid_of[node]:+bench_command node-relay node --rate "$at" "${t[@]}"}
	table server_cpu_us "CPU us"
}

mode_telemetry() {
	local t=(--seconds "$seconds" --secret-file "$dir/secret") at=${TELEMETRY_RATE:-5000} k
	local -a before=()
	[[ -n ${BEFORE:-} ]] && program=$BEFORE/belayd start_belayd before && before=(bench_telemetry before before "${t[@]}")
	start_belayd belayd
	start_belayd on "$workers" "sqlite://$dir/on/belay.db" -o store.telemetry_retention=1h
	start_belayd memory "$workers" memory: -o store.telemetry_retention=1h
	echo "100 devices, messages of 200 bytes, $at a second in all, which nobody watches; unit: a message taken in"
	echo "(belayd stores none; belayd-on stores them on disk with full synchronisation, belayd-on-mem in memory)"
	contest "$rounds" ${before:+"${before[@]}" --rate "$at"} -- bench_telemetry belayd belayd "${t[@]}" --rate "$at" -- \
		bench_telemetry belayd-on on "${t[@]}" --rate "$at" -- bench_telemetry belayd-on-mem memory "${t[@]}" --rate "$at"
	table server_cpu_us "CPU us"
	echo
	echo "the same, 16 on their way for each device: more than can be stored (the rest is shown and counted)"
	contest "$rounds" ${before:+"${before[@]}"} -- bench_telemetry belayd belayd "${t[@]}" -- \
		bench_telemetry belayd-on on "${t[@]}" -- bench_telemetry belayd-on-mem memory "${t[@]}"
	table server_cpu_us "CPU us"
	echo
	echo "100 commands a second (open loop) to 100 other devices, alone and while $at messages of telemetry a second come"
	: >"$dir/results"
	for ((k = 0; k < rounds; k++)); do
		load bench_command alone belayd "${t[@]}" --rate 100
		beside belayd
		beside on
	done
	table server_cpu_us "CPU us"
}

# beside CONTESTANT: commands while telemetry comes.
beside() {
	"$bench/bench_telemetry" --name beside --connect "127.0.0.1:${port_of[$1]}" --secret-file "$dir/secret" --rate "$at" \
		--warm-up 0 --seconds "$((seconds + 2))" >/dev/null 2>"$dir/beside.log" &
	local pid=$!
	load bench_command "beside-$1" "$1" "${t[@]}" --rate 100
	wait "$pid" || { echo "FAILED: bench_telemetry: $(cat "$dir/beside.log")"; failures=$((failures + 1)); }
}

mode_hold() {
	local t=(--connections "$hold_connections" --seconds "$hold_seconds")
	echo "$hold_connections idle connections, each of a user of its own, heartbeat 30 s; memory: PSS of all processes between a fifth and all"
	serve floor "$bench/raw_epoll" --mode echo --port PORT --workers "$workers"
	start_belayd
	peers && serve node "$(command -v node)" tests/bench/peers/jwt.js PORT "$dir/secret"
	contest 1 bench_hold floor floor --raw "${t[@]}" -- \
		bench_hold belayd belayd --secret-file "$dir/secret" "${t[@]}" \
		-- ${pid_of[node]:+bench_hold node-jwt node --secret-file "$dir/secret" "${t[@]}"}
	table bytes_per_connection "bytes each"
	echo
	table server_cpu_us_per_connection_second "CPU us/s"
}

# Each line is a noisy tenant of another kind; the rounds of one take turns with rounds in which it is silent.
mode_tenants() {
	local quota=500 connections=400 line name
	local t=(--rounds "$rounds" --seconds "$seconds" --secret-file "$dir/secret")
	# Commands are acknowledged, which counts as well: 6 of 10 are within the quota.
	echo "a tenant's commands, 200 a second, while another tenant, whose quota is $quota messages a second and $connections connections," \
		"is silent, and while it is not; unit: the way of a command, us"
	limits="tenant_message_rate = $quota; connections_per_tenant = $connections;" start_belayd
	: >"$dir/results"
	load bench_tenants over-ws belayd "${t[@]}" --noise ws --noisy-rate $((10 * quota))
	load bench_tenants over-rest belayd "${t[@]}" --noise rest --noisy-rate $((10 * quota))
	load bench_tenants over-both belayd "${t[@]}" --noise both --noisy-rate $((10 * quota))
	load bench_tenants within belayd "${t[@]}" --noise ws --noisy-rate $((quota * 6 / 10)) \
		--dashboards $((connections / 2)) --noisy-devices $((connections / 2)) --noisy-users 20
	load bench_tenants lumps belayd "${t[@]}" --noise ws --noisy-rate $((quota * 6 / 10)) --noisy-lump $((quota * 3 / 10))
	load bench_tenants register belayd "${t[@]}" --noise register --noisy-rate $quota
	load bench_tenants events-60k belayd "${t[@]}" --noise events --noisy-rate $((quota / 5)) --noisy-bytes 60000
	load bench_tenants arrays belayd "${t[@]}" --noise arrays --noisy-rate $((quota / 5)) --noisy-bytes 30000
	stop_all
	limits="tenant_message_rate = 1000000; requests_per_user = 0; replay = 20000;" start_belayd
	load bench_tenants search belayd "${t[@]}" --noise search --stock 20000 --requesters 200 --noisy-rate $((10 * quota))
	load bench_tenants resume belayd "${t[@]}" --noise resume --stock 19000 --dashboards 100 --noisy-rate $quota
	load bench_tenants subscribe belayd "${t[@]}" --noise subscribe --stock 1000 --noisy-rate $quota
	stop_all
	start_belayd
	load bench_tenants two-users belayd "${t[@]}" --noise ws --noisy-rate $((quota * 6 / 10)) --noisy-lump $((quota * 3 / 10)) \
		--same-tenant
	load bench_tenants no-quota belayd "${t[@]}" --noise ws --noisy-rate $((6 * quota)) --noisy-lump $((2 * quota))
	stop_all
	limits="tenant_message_rate = $quota; connections_per_tenant = $connections; tenant_message_burst = $((quota / 20));" \
		start_belayd
	load bench_tenants lumps-bounded belayd "${t[@]}" --noise ws --noisy-rate $((quota * 6 / 10)) --noisy-lump $((quota * 3 / 10))
	printf '%-14s %10s %10s %8s %10s %10s %8s %10s %10s\n' "" "p50 quiet" "p50 noisy" ratio "p99 quiet" "p99 noisy" ratio sent refused
	while read -r line; do
		declare -A v=()
		for name in $line; do v[${name%%=*}]=${name#*=}; done
		printf '%-14s %10s %10s %8s %10s %10s %8s %10s %10s\n' "${v[name]}" "${v[quiet_p50_us]}" "${v[loud_p50_us]}" "${v[ratio_p50]}" \
			"${v[quiet_p99_us]}" "${v[loud_p99_us]}" "${v[ratio_p99]}" $((v[sent] + v[requests])) $((v[refused] + v[requests_refused]))
	done <"$dir/results"
}

failures=0
echo "$(date -u +%FT%TZ) $(uname -sr), $(nproc) cores, $(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo)," \
	"load $(cut -d' ' -f1 /proc/loadavg), $("$build/belayd" -V 2>/dev/null | head -n 1), $workers gateway(s)," \
	"$rounds rounds of $seconds s" | tee -a "$build/bench.log"
for mode; do
	echo
	echo "== $mode"
	pid_of=() port_of=()
	"mode_$mode"
	stop_all
done
((failures == 0)) || { echo; echo "$failures measurements failed"; exit 1; }
