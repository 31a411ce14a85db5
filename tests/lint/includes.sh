#!/bin/sh
# includes.sh: the includes point one way only.  For each folder, what its files may include of ours:
set -eu
cd "${top_srcdir:-.}"

layers() {
	cat <<-'END'
		src/base	src/base
		src/ws		src/ws
		shm		src/base shm
		src/net		src/base src/net
		src/http	src/base src/http
		src/msg		src/base shm src/msg
		src/auth	src/base src/auth
		src/db		src/base src/msg src/db
		workers		src/base src/ws shm src/net src/http src/msg src/auth src/db workers
		workers/store	src/base shm src/http src/msg src/auth src/db workers/role.h workers/store
		workers/reader	src/base shm src/http src/msg src/auth src/db workers/role.h workers/store workers/reader
		workers/storage	src/base shm src/ws/close.h src/http src/msg src/auth src/db workers/role.h workers/store workers/storage
		src/master	src/base src/net shm src/master workers/role.h workers/roles.def
		src/main.c	src/base src/master
		src/belayctl	src/base src/ws shm src/net src/http src/msg src/auth src/db src/belayctl
	END
}

# "net/listen.h" -> src/net/listen.h; "workers/role.h" stays.  A bare name is of the includer's own folder.
resolve() {
	for dir in "${1%/*}/" src/ workers/ ""; do
		if [ -e "$dir$2" ]; then
			echo "$dir$2"
			return
		fi
	done
	echo "?$2"
}

faults=0
checked=0
while read -r folder allowed; do
	for file in $(find "$folder" -name '*.[ch]' -o -name '*.def' | sort); do
		for name in $(sed -n 's/^[ 	]*#[ 	]*include[ 	]*"\([^"]*\)".*/\1/p' "$file"); do
			[ "$name" = config.h ] && continue
			checked=$((checked + 1))
			target=$(resolve "$file" "$name")
			ok=
			for may in $allowed; do
				case $target in
				"$may" | "$may"/*) ok=1 ;;
				esac
			done
			if [ -z "$ok" ]; then
				echo "$file includes $target; $folder may include: $allowed"
				faults=$((faults + 1))
			fi
		done
	done
done <<END
$(layers)
END

# Nothing is left out of the table above.
for file in $(find src shm workers -name '*.[ch]' | sort); do
	layers | awk -v f="$file" 'index(f, $1 "/") == 1 || f == $1 { found = 1 } END { exit !found }' ||
		{ echo "$file is in no layer"; faults=$((faults + 1)); }
done

echo "$checked includes, $faults faults"
[ "$checked" -gt 0 ] && [ "$faults" -eq 0 ]
