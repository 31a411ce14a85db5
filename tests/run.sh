#!/usr/bin/env bash
# run.sh: every test there is, from a bare checkout on Debian 12.
#
#	tests/run.sh [--quick] [PYTEST-ARGUMENT...]
#
# Installs the packages that are missing (root or sudo) and builds in ./build.  Then, at the same time: the scenarios
# (tests/scenario) against the programs there; and "make check" there and, under the address and undefined-behaviour
# sanitizers, in ./build-asan.  Last those scenarios that feed strangers' bytes (conftest.py says which), with sanitizers.
# --quick leaves out all that is with sanitizers.  The last line is "N passed, N failed" (and how many were skipped); the
# exit status is 0 when nothing failed.  With CI=true a skipped test is a failed one.
# Up to five scenarios that failed are run once more, each alone; those that pass then are shown with their first failure
# and counted apart ("N only on the second run"); with CI=true they count as failed, except those that tests/scenario/unsteady
# lists.  A crash and a sanitizer's report are failures, whatever passed.
# Logs: build/test-suite.log, build-asan/test-suite.log, build/scenario/.

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
top=$PWD
. contrib/packages.sh

# TEST_BUILD, TEST_BUILD_ASAN: other folders to build in.  (BELAY_BUILD, the older name, is taken too.)
build=${TEST_BUILD:-${BELAY_BUILD:-$top/build}}
build_asan=${TEST_BUILD_ASAN:-${BELAY_BUILD_ASAN:-$top/build-asan}}
unset BELAY_BUILD BELAY_BUILD_ASAN	# belayd would take them for options
python=${PYTHON:-/usr/bin/python3}
jobs=$(nproc 2>/dev/null || echo 2)
quick=
[[ ${1:-} == --quick ]] && { quick=1; shift; }
passed=0 failed=0 skipped=0 second=0
started=$SECONDS

say() { printf '\n== %s (%d s)\n' "$*" $((SECONDS - started)); }

# The line is printed however this ends.
finish() {
	local note=
	trap - EXIT
	if [[ ${CI:-} == true ]]; then
		((failed += skipped))
		((skipped)) && note=" (of these $skipped skipped, which counts as failed here)"
	elif ((skipped)); then
		note=", $skipped skipped"
	fi
	echo
	((second)) && note=", $second only on the second run$note"
	echo "$passed passed, $failed failed$note"
	((failed == 0 && passed > 0)) || exit 1
	exit 0
}
trap finish EXIT
trap 'failed=$((failed + 1)); [[ -z ${checks:-} ]] || kill "$checks"; exit' INT TERM

# A step that is no test by itself, such as the build: its failure counts as one.
step_failed() { echo "FAILED: $*"; ((failed++)); }

# build_in DIRECTORY CONFIGURE-ARGUMENT...
build_in() {
	local dir=$1
	shift
	mkdir -p "$dir" || return
	if [[ ! -f $dir/Makefile || $top/configure -nt $dir/config.status ]]; then
		(cd "$dir" && "$top/configure" --quiet "$@") || return
	fi
	make -C "$dir" -s -j"$jobs" all || return
}

# check_in DIRECTORY [MAKE-ARGUMENT...]: make check; its exit status is left in check.status, and nothing is counted.
check_in() {
	local dir=$1
	shift
	find "$dir" -name '*.trs' -delete
	rm -f "$dir/test-suite.log"
	# Most of them wait, so one more at a time.
	make -C "$dir" -s -k -j$((jobs + 1)) check "$@" >"$dir/check.log" 2>&1 </dev/null
	echo $? >"$dir/check.status"
}

# count_check_in DIRECTORY: the results of make check there, added to the sums.
count_check_in() {
	local dir=$1 result status
	status=$(cat "$dir/check.status" 2>/dev/null) || status=1
	grep -E '^(PASS|FAIL|SKIP|XPASS|ERROR):' "$dir/check.log"
	while read -r result; do
		case $result in
		PASS | XFAIL) ((passed++)) ;;
		SKIP) ((skipped++)) ;;
		*) ((failed++)) ;;
		esac
	done < <(find "$dir" -name '*.trs' -exec sed -n 's/^:test-result: *//p' {} +)
	if ((status != 0)); then
		# Not built, or no result at all: nothing of it was counted.
		find "$dir" -name '*.trs' -exec grep -qE '^:test-result: (FAIL|ERROR|XPASS)' {} \; -print -quit | grep -q . ||
			step_failed "make check in $dir"
		if [[ -s $dir/test-suite.log ]]; then tail -n 300 "$dir/test-suite.log"; else tail -n 50 "$dir/check.log"; fi
	fi
}

# pytest_in DIRECTORY FAILURES PYTEST-ARGUMENT...: what fails is written to the folder FAILURES (see tests/scenario/conftest.py).
pytest_in() {
	local dir=$1 failures=$2
	shift 2
	rm -rf "$failures"
	TEST_BUILD=$dir TEST_FAILURES=$failures PYTHONPYCACHEPREFIX=$dir/scenario/pycache "$python" -m pytest -q -p no:cacheprovider "$@" </dev/null
}

# listed TEST: does tests/scenario/unsteady have a line for it?
listed() {
	cut -f 1 "$top/tests/scenario/unsteady" | grep -qxF -- "$1"
}

# Those of DIRECTORY that failed, each alone; $again is how many of them passed and may.
once_more_in() {
	local dir=$1 first=$1/scenario/first failure test passing=()
	for failure in "$first"/*; do
		test=$(head -n 1 "$failure")
		say "once more, alone: $test"
		pytest_in "$dir" "$dir/scenario/second" "$top/$test" || continue
		passing+=("$failure")
		if [[ ${CI:-} != true ]] || listed "$test"; then
			((again++))
		else
			echo "FAILED: $test passes only on its second run, and tests/scenario/unsteady does not list it"
		fi
	done
	((${#passing[@]})) || return
	say "passed only on the second run"
	for failure in "${passing[@]}"; do
		printf '\n-- the first failure of '
		cat "$failure"
	done
}

# Does every counter of stats.def move in some scenario?  One test; a run of a part of them can't say.
count_counters() {
	say "counters"
	if "$python" "$top/tests/scenario/moved.py" "$TEST_COUNTERS"; then
		((passed++))
	else
		step_failed "counters that no scenario moves, and tests/scenario/unmoved does not list"
	fi
}

# scenarios_in DIRECTORY [PYTEST-ARGUMENT...]: tests/scenario against the programs there, and the results added to the sums.
scenarios_in() {
	local dir=$1 counts status total f s again=0 nodes report
	shift
	mkdir -p "$dir/scenario"
	rm -rf "$dir/scenario/junit.xml" "$dir/scenario/reports"
	pytest_in "$dir" "$dir/scenario/first" -n $((3 * jobs)) --dist loadgroup --durations=5 -rfEs \
		--junitxml="$dir/scenario/junit.xml" "$top/tests/scenario" "$@"
	status=$?
	counts=$("$python" - "$dir/scenario/junit.xml" <<'END'
import sys, xml.etree.ElementTree as tree
try:
    suites = list(tree.parse(sys.argv[1]).getroot().iter("testsuite"))
except (OSError, tree.ParseError):
    sys.exit(1)
print(*(sum(int(s.get(k, 0)) for s in suites for k in keys)
        for keys in (("tests",), ("failures", "errors"), ("skipped",))))
END
	) || counts="0 0 0"
	read -r total f s <<<"$counts"
	# A test that failed and whose end failed, too, is one.
	nodes=$(find "$dir/scenario/first" -type f 2>/dev/null | wc -l)
	((nodes > 0)) && f=$nodes
	((nodes > 0 && nodes <= 5)) && once_more_in "$dir"
	((passed += total - f - s, failed += f - again, second += again, skipped += s))
	((status == 0 || f > 0)) || step_failed "scenarios in $dir (pytest ended with $status)"
	for report in "$dir"/scenario/reports/*; do
		[[ -f $report ]] || continue
		step_failed "a crash or a sanitizer's report: $report"
		tail -n 100 "$report"
	done
}

say "packages"
# shellcheck disable=SC2086
belay_install_packages $belay_build_packages $belay_test_packages || { step_failed packages; exit; }

say "build"
[[ -x configure && ! configure.ac -nt configure ]] || ./bootstrap >/dev/null || { step_failed bootstrap; exit; }
build_in "$build" || { step_failed build; exit; }

# While the scenarios run, which mostly wait: the build with sanitizers, and make check in both.
rm -f "$build/check.status" "$build_asan/check.status" "$build_asan.status"
{
	if [[ -z $quick ]]; then
		build_in "$build_asan" --enable-sanitizers >"$build_asan.log" 2>&1 </dev/null
		echo $? >"$build_asan.status"
	fi
	check_in "$build"
	[[ -n $quick || $(cat "$build_asan.status") != 0 ]] || check_in "$build_asan" LINT_TESTS=
} &
checks=$!

say "scenarios"
export TEST_COUNTERS=$build/scenario/counters	# what moved there: tests/scenario/moved.py
rm -rf "$TEST_COUNTERS"
scenarios_in "$build" "$@"
(($#)) || count_counters
unset TEST_COUNTERS
if [[ -z $quick ]]; then
	while [[ ! -s $build_asan.status ]] && kill -0 "$checks" 2>/dev/null; do sleep 0.2; done
	if [[ $(cat "$build_asan.status") == 0 ]]; then
		say "scenarios, with the address and undefined-behaviour sanitizers"
		scenarios_in "$build_asan" -m "not once" "$@"
	else
		cat "$build_asan.log"
		step_failed "build with sanitizers"
	fi
fi

wait "$checks"
say "make check"
count_check_in "$build"
if [[ -z $quick && $(cat "$build_asan.status") == 0 ]]; then
	say "make check, with the sanitizers"
	count_check_in "$build_asan"
fi
if [[ $build == "$top/build" ]]; then
	say "quickstart"
	if bash contrib/quickstart.sh --check >"$build/quickstart.log" 2>&1 </dev/null; then
		((passed++))
	else
		step_failed "contrib/quickstart.sh --check"
		tail -n 30 "$build/quickstart.log"
	fi
fi
say "done"
