#!/bin/bash
# A short run for `make test`, on the demo, with a seed by which it covers everything; for a long one run
# exact_http.py with a model that has a chat.
exec python3 "$(dirname "$0")/exact_http.py" --cases 60 --seed 371 --kv-memory 2
