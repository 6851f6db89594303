#!/bin/bash
# A short soak for `make test`; for a long one run soak.py --seconds 600.
exec python3 "$(dirname "$0")/soak.py" --clients 50 --seconds "${SOAK_SECONDS:-5}" --tokens 40
