# Checks of the sources themselves, and of the manual against the .def files.
LINT_TESTS = tests/lint/includes.sh tests/lint/text.sh tests/lint/headers.sh tests/lint/docs.sh tests/lint/documents.py tests/lint/lists.py
TESTS += $(LINT_TESTS)
TEST_EXTENSIONS = .sh .py
SH_LOG_COMPILER = $(SHELL)
PY_LOG_COMPILER = $${PYTHON:-/usr/bin/python3}
EXTRA_DIST += $(LINT_TESTS) tests/lint/validators.sh
# docs.sh reads the pages as built.
tests/lint/docs.log: $(MAN_PAGES)
tests/lint/documents.log: $(DOCUMENTS)
