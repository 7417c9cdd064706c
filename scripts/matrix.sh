#!/bin/sh
# matrix.sh [PYTHON[:NUMPY] ...]: set up mxnetseg on each of these Pythons, run doctor, scripts/smoke.py and some tests.
# By default: every Python 3.9 to 3.13 found, and Python 3.11 once more with NumPy 2.
# PYTHON:NUMPY installs the newest NumPy of the series NUMPY; without it, the NumPy of requirements.txt.
# TESTS: which tests to run. Environments that work are removed, unless KEEP is set.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- python3.9 python3.10 python3.11 python3.11:2 python3.12 python3.13
tests=${TESTS:-tests/test_compat.py tests/metrics tests/losses}

failed=0 tried=0
for entry in "$@"; do
    python=${entry%%:*} numpy=
    [ "$entry" = "$python" ] || numpy=${entry#*:}
    "$python" -c "" 2>/dev/null || {  # a Python of pyenv that is not active
        for found in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"${python#python}".*/bin/python; do
            [ -x "$found" ] && python=$found
        done
    }
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || {
        echo "$python: not found, skipped"
        continue
    }
    tried=$((tried + 1))
    venv=.venv-matrix-$version${numpy:+-numpy$numpy}
    # $tests is a list: no quotes
    if PYTHON=$python NUMPY=$numpy sh scripts/make_venv.sh "$venv" && "$venv/bin/mxnetseg" doctor >"$venv/doctor.txt" \
        && "$venv/bin/python" scripts/smoke.py \
        && OMP_NUM_THREADS=1 "$venv/bin/python" -m pytest -q -n 2 -m "not slow and not gpu" $tests; then
        echo "Python $version${numpy:+ with NumPy $numpy}: works"
        [ -n "${KEEP:-}" ] || rm -rf "$venv"
    else
        echo "Python $version${numpy:+ with NumPy $numpy}: FAILED"
        failed=1
    fi
done
[ $tried -gt 0 ] || { echo "error: none of these Pythons was found: $*" >&2; exit 2; }
exit $failed
