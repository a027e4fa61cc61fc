# Sourced by the scripts beside it: makes .venv what the lock file says, then puts it first on PATH.
# Usage: . scripts/_env.sh run|dev   (run: what the program needs; dev: that and the tools of a developer)
set -eu
kind=$1
cd "$(dirname "$0")/.."
lock=requirements.lock
[ "$kind" = dev ] && lock=requirements-dev.lock
python=${PYTHON:-python3}
want=$(cat "$lock" pyproject.toml | cksum)
stamp=.venv/.hip3-$kind
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$want $PWD" ]; then
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "hip3 needs Python 3.11 or newer; $python is $("$python" --version). Set PYTHON to a newer one." >&2
    exit 2
  }
  echo "setting up .venv from $lock (once)" >&2
  # A virtual environment does not survive being moved, so a foreign one is made anew.
  [ -f .venv/.hip3-home ] && [ "$(cat .venv/.hip3-home)" = "$PWD" ] || "$python" -m venv --clear .venv
  echo "$PWD" > .venv/.hip3-home
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r "$lock" >&2
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . >&2
  echo "$want $PWD" > "$stamp"
fi
PATH="$PWD/.venv/bin:$PATH"
export PATH
