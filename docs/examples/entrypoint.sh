#!/bin/sh
# with-cluster COMMAND...: the command, while the cluster's names resolve; everything is put back when it has ended.
resolverd up --wait "${RESOLVERD_WAIT:-60}" || exit
trap 'resolverd down >&2' EXIT
"$@"
