#!/usr/bin/env bash
# Every test, inside a stage where there can be one. Arguments go to pytest. Run it by `make test`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stage=(.venv/bin/python -m resolverd.demo.stage --)
code=0
"${stage[@]}" true || code=$?
case $code in
    0) ;;
    4 | 6) # no right to, or the host cannot: the line above says why
        echo "make test: no private namespaces here, so the tests that need them are SKIPPED (as root they run)" >&2
        exec .venv/bin/pytest "$@"
        ;;
    *) exit "$code" ;;
esac
if (($#)); then
    exec "${stage[@]}" .venv/bin/pytest "$@"
fi

# Most of the time tests wait. Two halves, each on a stage of its own, do not know of each other. What tests signals and
# terminals is in the one before us: a shell has its background processes ignore SIGINT.
shopt -s extglob
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"${stage[@]}" .venv/bin/pytest -p no:cacheprovider tests/test_@(cli|control|doctor)*.py >"$scratch/out" 2>&1 &
other=$!
"${stage[@]}" .venv/bin/pytest tests/test_!(cli*|control*|doctor*).py || code=$?
echo "make test: the other half, which ran beside it:"
half=0
wait "$other" || half=$?
cat "$scratch/out"
exit $((code > half ? code : half))
