"""Flows: the only folder that knows Prefect.

Loading the settings here is the one piece of work done at import time: Prefect reads its
environment when it is imported, so its home and its switches must be set before.
"""

from components.core.errors import ConfigError
from components.core.settings import load_settings

try:
    load_settings()
except ConfigError as outside_a_checkout:
    # `modelmill --help` answers anywhere; a command that needs the workspace raises it again.
    _ = outside_a_checkout
