#!/bin/sh
# matrix.sh [PYTHON...]: set up mxnetseg on every Python 3.9 to 3.12 found (or on those named) and try it.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- python3.9 python3.10 python3.11 python3.12

failed=0 tried=0
for python in "$@"; do
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    tried=$((tried + 1))
    venv=.venv-matrix-$version
    if PYTHON=$python sh scripts/make_venv.sh "$venv" && "$venv/bin/mxnetseg" doctor >"$venv/doctor.txt" \
        && "$venv/bin/python" scripts/smoke.py; then
        echo "Python $version: works"
    else
        echo "Python $version: FAILED"
        failed=1
    fi
done
[ $tried -gt 0 ] || { echo "error: none of these Pythons is here: $*" >&2; exit 2; }
exit $failed
