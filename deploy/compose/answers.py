"""Exit with status 0 if a URL answers with a status below 500: the health check of the HTTP servers.

The image has no curl: a process with less inside it gives less to a thief.
"""

import sys
import urllib.error
import urllib.request

try:
    with urllib.request.urlopen(sys.argv[1], timeout=10) as answer:  # noqa: S310 - a URL of the compose file
        print(answer.status)
except urllib.error.HTTPError as error:
    # A login that refuses this check answers all right; a part that does not work answers 5xx.
    sys.exit(f"{sys.argv[1]}: {error}" if error.code >= 500 else 0)
except OSError as error:
    sys.exit(f"{sys.argv[1]}: {error}")
