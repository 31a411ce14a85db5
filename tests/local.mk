# What "make check" runs: unit tests (cmocka), the shared memory under kill -9, the fuzz targets over their corpora, and
# the checks of the sources themselves.  tests/run.sh runs these and the scenarios; tests/README.md says how.
include tests/unit/local.mk
include tests/fuzz/local.mk
include tests/lint/local.mk
include tests/bench/local.mk

AM_TESTS_ENVIRONMENT = \
	top_srcdir='$(abs_top_srcdir)'; top_builddir='$(abs_top_builddir)'; \
	CC='$(CC)'; MANDOC='$(MANDOC)'; export top_srcdir top_builddir CC MANDOC;

EXTRA_DIST += tests/run.sh tests/README.md tests/scenario

# After --enable-coverage and "make check": which lines ran, as HTML in coverage/ (Debian: lcov).
coverage:
	lcov --quiet --capture --directory . --base-directory $(abs_top_srcdir) --no-external --output-file coverage.info
	lcov --quiet --remove coverage.info '*/tests/*' '*/man/*' --output-file coverage.info
	genhtml --quiet --output-directory coverage coverage.info
	lcov --summary coverage.info
.PHONY: coverage
CLEANFILES += coverage.info

dist-hook:
	find $(distdir) -name __pycache__ -o -name node_modules | xargs rm -rf
