#!/bin/sh
# The binary as MILLRACE for the other cases, with every server on the posix kernel: MILLRACE_REAL names the real one.
[ "$1" = serve ] || exec "$MILLRACE_REAL" "$@"
shift
exec "$MILLRACE_REAL" serve --kernel posix "$@"
