"""A Config written out as YAML, with every key: what `spooky -T` prints.

The text reads back as an equal Config, wherever the file is put, for its paths are absolute. Only
secrets are left out: what stands in their place is refused when it is read.
"""

import yaml

from spooky.config.model import Config
from spooky.config.tables import CONFIG


def dump(config: Config) -> str:
    """Write the configuration as it was resolved, defaults included."""
    text = yaml.safe_dump(CONFIG.write(config), sort_keys=False, allow_unicode=True, width=100)
    return str(text)
