#!/bin/sh
# text.sh: no white space at the ends of lines, no overlong lines in C, a comment that opens each C file, no word of
# what is outside the project.
set -eu
cd "${top_srcdir:-.}"
faults=0

fault() {
	echo "$@"
	faults=$((faults + 1))
}

files=$(find configure.ac Makefile.am bootstrap README.md HACKING.md src shm workers sql man contrib tests \
	-type f ! -path '*/corpus/*' ! -path '*/node_modules/*' ! -path '*/__pycache__/*' ! -name '*.pem' | sort)
[ "$(echo "$files" | wc -l)" -gt 50 ] || fault "hardly any files found"

for file in $files; do
	if grep -nE '[[:blank:]]+$' "$file" /dev/null; then
		fault "$file: white space at the end of a line"
	fi
	if [ -s "$file" ] && [ -n "$(tail -c 1 "$file")" ]; then
		fault "$file: no line break at the end"
	fi
	case $file in
	*.c | *.h)
		head -n 1 "$file" | grep -q '^/\*' || fault "$file: does not open with a comment"
		max=120	# 100 is the aim; formats and macros may need more
		case $file in
		tests/*) max=132 ;;	# tables of inputs read better whole
		esac
		LC_ALL=C sed 's/[\x80-\xbf]//g' "$file" | expand | awk -v f="$file" -v max=$max '
			length($0) > max { print f ":" NR ": " length($0) " columns"; bad = 1 }
			END { exit bad }' || fault "$file: lines past $max columns"
		;;
	esac
done

# Written in two halves, so that this file is not found by itself.
for word in '/wo''rk/' '/tmp/br''ief' 'PROTO''COL\.md' 'PROTO''COL section' 'DES''IGN\.md' 'STY''LE\.md' 'LIBRA''RIES\.md' 'XX''X([^X]|$)' 'FIX''ME' 'TO''DO'; do
	# shellcheck disable=SC2086
	if grep -nE "(^|[^A-Za-z])$word" $files; then
		fault "the word $word"
	fi
done

echo "$(echo "$files" | wc -l) files, $faults faults"
[ "$faults" -eq 0 ]
