"""`python -m restsource_dagster.cli`, the same as `restsource`."""

import sys

from restsource_dagster.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
