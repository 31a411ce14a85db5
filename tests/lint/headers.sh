#!/bin/sh
# headers.sh: a header is guarded, compiles by itself, and puts a contract beside its functions: each group of prototypes
# (lines without an empty one between) has a comment, unless they are only pairs such as x_init() and x_fini().
set -eu
cd "${top_srcdir:-.}"
faults=0
headers=$(find src shm workers -name '*.h' | sort)

bare=$(for header in $headers; do
	awk '
		function flush() {
			if (prototypes && !comments)
				print FILENAME ":" start ": no word on what this does: " first
			prototypes = comments = 0
		}
		{ line = $0 }
		/^[ \t]*$/ && !incomment { flush(); start = NR + 1; next }
		incomment { comments = 1; if (index(line, "*/")) incomment = 0; next }
		/\/\*/ { comments = 1; if (!index(substr(line, index(line, "/*")), "*/")) incomment = 1 }
		/_(init|fini|free|new)\(/ { next }
		# A prototype: at the left margin a type, a name and an opening parenthesis.
		/^[A-Za-z_][A-Za-z0-9_ ]*[ *][a-z0-9_]+\(.*[,;)]$/ && !/^(static|typedef)/ && (/;$/ || /,$/) {
			if (!prototypes)
				first = line
			prototypes++
		}
		END { flush() }
	' "$header"
done)
[ -z "$bare" ] || { echo "$bare"; faults=$(echo "$bare" | wc -l); }

for header in $headers; do
	name=$(echo "$header" | sed 's|^src/||')
	case $header in
	*_each.h) continue ;;	# included many times, inside other things
	esac
	grep -q '^#ifndef BELAY_' "$header" || { echo "$header: no guard"; faults=$((faults + 1)); }
	printf '#include "%s"\nint unused;\n' "$name" |
		${CC:-cc} -std=gnu11 -D_GNU_SOURCE -I. -Isrc -Iworkers -Wall -Wextra -fsyntax-only -x c - 2>&1 ||
		{ echo "$header: does not compile by itself"; faults=$((faults + 1)); }
done

echo "$(echo "$headers" | wc -l) headers, $faults faults"
[ "$faults" -eq 0 ]
