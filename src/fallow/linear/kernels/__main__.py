"""`python -m fallow.linear.kernels`: build the library in place."""

import sys

from fallow.linear.kernels.build import main

sys.exit(main())
