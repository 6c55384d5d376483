#!/bin/bash
# Exit code 0 when every model answers for the metadata of its stable version, 1 otherwise. The server's image has no
# curl, and bash can speak to a port by itself. HTTP/1.0, so that the server closes the connection.
set -u
host=${1:-127.0.0.1}
port=${2:-8501}
for path in \
@{metadata_paths}
do
  exec 3<>"/dev/tcp/$host/$port" || exit 1
  printf 'GET %s HTTP/1.0\r\n\r\n' "$path" >&3
  read -r -t 4 _ status _ <&3 || exit 1
  exec 3>&-
  [ "$status" = 200 ] || exit 1
done 2>/dev/null
