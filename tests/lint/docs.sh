#!/bin/sh
# docs.sh: what the .def files list stands in the manual page that is for it, every page is clean under mandoc's lint, every
# command that belayctl knows is in its page, and the samples and README name no option that is not there.
set -eu
srcdir=${top_srcdir:-.}
pages=${top_builddir:-.}/man
faults=0
checked=0

fault() {
	echo "$@"
	faults=$((faults + 1))
}

# in_page PAGE WHAT NAME...: each name as a word of the page's text.
in_page() {
	page=$1 what=$2
	shift 2
	[ $# -gt 0 ] || fault "no $what found at all"
	for name; do
		checked=$((checked + 1))
		grep -qF -- "$name" "$pages/$page" || fault "$page: no $what $name"
	done
}

# def FILE MACRO NTH: the nth argument of each MACRO( in src/FILE.
def() {
	sed -n "s/^[[:blank:]]*$2(\(.*\)/\1/p" "$srcdir/$1" |
		awk -v n="$3" '{ split($0, a, /[[:blank:]]*,[[:blank:]]*/); gsub(/[")]/, "", a[n]); print a[n] }' | sort -u
}

options() {
	cat "$srcdir/src/base/conf.def" "$srcdir/src/base/conf_issuer.def" |
		sed -n 's/^CONF_[A-Z]*(\([a-z]*\), \([a-z_]*\),.*/\1.\2/p'
}

# shellcheck disable=SC2046
{
	in_page belayd.conf.5 option $(options)
	in_page belay-api.7 counter $(sed -n -e 's/^STAT([A-Z0-9_]*, "\([a-z_]*\).*/\1/p' -e 's/^HISTOGRAM([A-Z0-9_]*, "\([a-z_]*\).*/\1/p' "$srcdir/src/base/stats.def")
	in_page belay-api.7 'error code' $(def src/msg/error.def ERROR 1)
	in_page belay-api.7 path $(def src/http/routes.def ROUTE 3)
	in_page belay-api.7 body $(def src/msg/schema.def 'BODY[_A-Z]*' 1)
	in_page belay-protocol.7 'error code' $(def src/msg/error.def ERROR 1)
	in_page belay-protocol.7 'message type' $(def src/msg/schema.def MESSAGE 2)
	in_page belay-protocol.7 'close code' $(def src/ws/close.def X 1)
	in_page belay-protocol.7 event $(def src/msg/event.def EVENT 1)
	in_page belayctl.1 command $(def src/belayctl/commands.def COMMAND 1)
	in_page belayctl.1 option $(sed -n 's/^\t\t{ "\([a-z-]*\)", CTL_.*/-\1/p' "$srcdir"/src/belayctl/ctl_*.c | sort -u)
	in_page belay-processes.7 role $(def workers/roles.def ROLE 2)
	in_page belay-processes.7 record $(def src/msg/msg.def MSG 1)
}

# Every option says whether it reloads.
said=$(grep -cE '; (reloads|needs a restart)' "$pages/belayd.conf.5")
[ "$said" -eq "$(options | wc -l)" ] || fault "belayd.conf.5: $said options say whether they reload, of $(options | wc -l)"

# Options that a sample or a page names are there: section.option.
sections=$(options | sed 's/\..*//' | sort -u | tr '\n' '|' | sed 's/|$//')
for file in README.md HACKING.md contrib/belayd.conf contrib/haproxy.cfg contrib/nginx.conf $(cd "$srcdir" && ls man/*.in); do
	for option in $(grep -oE "\b($sections)\.[a-z_]+\b" "$srcdir/$file" | sort -u); do
		case $option in
		auth.issuers | *.def | *.c | *.h | *.conf | *.db | *.cfg | *.pid | *.sock) continue ;;
		esac
		checked=$((checked + 1))
		options | grep -qx -- "$option" || fault "$file: no option $option"
	done
done

# Files and folders that a README names are there.
for file in README.md HACKING.md $(cd "$srcdir" && find shm src workers tests contrib -name README.md | sort); do
	for path in $(grep -oE '`(contrib|man|shm|sql|src|tests|workers)/[A-Za-z0-9_./-]*`' "$srcdir/$file" | tr -d '`' | sort -u); do
		case $path in
		*NAME* | *NNNN*) continue ;;
		esac
		checked=$((checked + 1))
		[ -e "$srcdir/$path" ] || [ -e "${top_builddir:-.}/$path" ] || fault "$file: there is no $path"
	done
done

if [ -n "${MANDOC:-}" ]; then
	for page in "$pages"/*.[1578]; do
		checked=$((checked + 1))
		"$MANDOC" -T lint -W warning "$page" || fault "$page: mandoc finds fault"
	done
elif [ "${CI:-}" = true ]; then
	fault "mandoc is missing"
fi

echo "$checked facts, $faults faults"
[ "$checked" -gt 100 ] && [ "$faults" -eq 0 ]
