# embed.awk: writes the migrations given as arguments as a C table; engine is set with -v.
# The files' names are NNNN_name.sql and come sorted; a number twice is a fault.

function fail(why) {
	print "embed.awk: " why >"/dev/stderr"
	failed = 1
	exit 1
}

function finish() {
	if (number)
		print "\t},"
}

BEGIN {
	print "/* Made by sql/embed.awk from sql/" engine "/; not to be edited. */"
	print "#include \"db/migration.h\"\n"
	print "const struct migration migrations_" engine "[] = {"
}

FNR == 1 {
	finish()
	base = FILENAME
	sub(/.*\//, "", base)
	if (base !~ /^[0-9]+_[a-z0-9_]+\.sql$/)
		fail(base ": not named NNNN_name.sql")
	split(base, part, "_")
	if (part[1] + 0 <= number)
		fail(base ": expected a number above " number)
	number = part[1] + 0
	name = base
	sub(/^[0-9]+_/, "", name)
	sub(/\.sql$/, "", name)
	print "\t{ " number ", \"" name "\","
}

{
	gsub(/[\\"]/, "\\\\&")
	print "\t\t\"" $0 "\\n\""
}

END {
	if (failed)
		exit 1
	if (!number)
		fail("no migrations")
	finish()
	print "};"
	print "const size_t migrations_" engine "_count = sizeof(migrations_" engine ") / sizeof(migrations_" engine "[0]);"
}
