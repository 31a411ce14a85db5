#!/usr/bin/env bash
# run.sh: every test there is, from a bare checkout on Debian 12.
#
#	tests/run.sh [--quick] [PYTEST-ARGUMENT...]
#
# Installs the packages that are missing (root or sudo), builds in ./build, runs "make check" there and, in ./build-asan,
# once more under the address and undefined-behaviour sanitizers, then the scenarios (tests/scenario) against the programs
# of both.  --quick leaves out the sanitizers' passes.  The last line is "N passed, N failed" (and how many were
# skipped); the exit status is 0 when nothing failed.  With CI=true a skipped test is a failed one.
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
passed=0 failed=0 skipped=0
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
	echo "$passed passed, $failed failed$note"
	((failed == 0 && passed > 0)) || exit 1
	exit 0
}
trap finish EXIT
trap 'failed=$((failed + 1)); exit' INT TERM

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

# check_in DIRECTORY [MAKE-ARGUMENT...]: make check, and its results added to the sums.
check_in() {
	local dir=$1 result trs
	shift
	find "$dir" -name '*.trs' -delete
	rm -f "$dir/test-suite.log"
	make -C "$dir" -s -k -j"$jobs" check "$@" >"$dir/check.log" 2>&1 </dev/null
	local status=$?
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

# scenarios_in DIRECTORY [PYTEST-ARGUMENT...]: tests/scenario against the programs there, and the results added to the sums.
scenarios_in() {
	local dir=$1 counts status p f s
	shift
	mkdir -p "$dir/scenario"
	rm -f "$dir/scenario/junit.xml"
	TEST_BUILD=$dir PYTHONDONTWRITEBYTECODE=1 \
		"$python" -m pytest -q -p no:cacheprovider -n $((jobs + 1)) --dist loadfile --durations=5 -rfEs \
		--junitxml="$dir/scenario/junit.xml" "$top/tests/scenario" "$@" </dev/null
	status=$?
	counts=$("$python" - "$dir/scenario/junit.xml" <<'END'
import sys, xml.etree.ElementTree as tree
try:
    suites = list(tree.parse(sys.argv[1]).getroot().iter("testsuite"))
except (OSError, tree.ParseError):
    sys.exit(1)
total, failed, skipped = (sum(int(s.get(k, 0)) for s in suites for k in keys)
                          for keys in (("tests",), ("failures", "errors"), ("skipped",)))
print(total - failed - skipped, failed, skipped)
END
	) || counts="0 0 0"
	read -r p f s <<<"$counts"
	((passed += p, failed += f, skipped += s))
	((status == 0 || f > 0)) || step_failed "scenarios in $dir (pytest ended with $status)"
}

say "packages"
# shellcheck disable=SC2086
belay_install_packages $belay_build_packages $belay_test_packages || { step_failed packages; exit; }

say "build"
[[ -x configure && ! configure.ac -nt configure ]] || ./bootstrap >/dev/null || { step_failed bootstrap; exit; }
build_in "$build" || { step_failed build; exit; }

say "make check"
check_in "$build"

if [[ -z $quick ]]; then
	say "make check, with the address and undefined-behaviour sanitizers"
	if build_in "$build_asan" --enable-sanitizers; then
		check_in "$build_asan" LINT_TESTS=
	else
		step_failed "build with sanitizers"
	fi
fi

say "scenarios"
scenarios_in "$build" "$@"
if [[ -z $quick && -x $build_asan/belayd ]]; then
	say "scenarios, with the sanitizers"
	scenarios_in "$build_asan" "$@"
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
