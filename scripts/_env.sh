# Sourced by the scripts beside it, with $need set: makes .venv what the lock file says and puts it first on PATH.
# need=run: what the program needs; need=dev: that and the tools of a developer. Sets $root; stays in the caller's folder.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
venv=$root/.venv
lock=$root/requirements.lock
[ "$need" = dev ] && lock=$root/requirements-dev.lock
want="$(cat "$lock" "$root/pyproject.toml" | cksum) $root"
if [ "$(cat "$venv/.hip3-$need" 2>/dev/null)" != "$want" ]; then
  python=${PYTHON:-python3}
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "hip3 needs Python 3.11 or newer; '$python' is not. Set PYTHON to one that is." >&2
    exit 2
  }
  echo "setting up $venv from $(basename "$lock") (once; about a minute)" >&2
  # A virtual environment does not survive being moved or copied, so one made elsewhere is made anew.
  [ "$(cat "$venv/.hip3-home" 2>/dev/null)" = "$root" ] || "$python" -m venv --clear "$venv"
  echo "$root" > "$venv/.hip3-home"
  pip="$venv/bin/python -m pip -qq --disable-pip-version-check install --no-deps"
  $pip --require-hashes -r "$lock" >&2
  (cd "$root" && $pip --no-build-isolation -e .) >&2
  echo "$want" > "$venv/.hip3-$need"
fi
PATH="$venv/bin:$PATH"
export PATH
