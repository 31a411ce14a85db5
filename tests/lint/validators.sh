#!/bin/sh
# validators.sh: OpenAPI and AsyncAPI as built, looked at by validators from the npm registry, which Debian does not have.
#
#	sh tests/lint/validators.sh [BUILD-FOLDER]
#
# No part of "make check": it needs the network the first time, node and npm. They go to BUILD-FOLDER/validators.
set -eu
build=${1:-build}
tools=$build/validators
[ -s "$build/contrib/openapi.json" ] || { echo "there is no $build/contrib/openapi.json: make all"; exit 2; }
if [ ! -d "$tools/node_modules/@asyncapi/parser" ]; then
	mkdir -p "$tools"
	npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$tools" \
		@redocly/cli@2 @seriousme/openapi-schema-validator@2 @asyncapi/parser@3
fi
bin=$tools/node_modules/.bin
faults=0
"$bin/validate-api" "$build/contrib/openapi.json" || faults=$((faults + 1))
"$bin/redocly" lint "$build/contrib/openapi.json" || faults=$((faults + 1))
NODE_PATH=$tools/node_modules node - "$build/contrib/asyncapi.json" <<'JS' || faults=$((faults + 1))
const { Parser } = require("@asyncapi/parser");
const text = require("fs").readFileSync(process.argv[2], "utf8");
new Parser().parse(text).then(({ document, diagnostics }) => {
	for (const d of diagnostics)
		console.log(["error", "warning", "info", "hint"][d.severity], d.code, d.path.join("/"), d.message);
	console.log(document ? `AsyncAPI ${document.version()}: ${document.allMessages().length} messages` : "AsyncAPI: not valid");
	process.exit(document && !diagnostics.some((d) => d.severity === 0) ? 0 : 1);
});
JS
echo "$faults faults"
[ "$faults" -eq 0 ]
